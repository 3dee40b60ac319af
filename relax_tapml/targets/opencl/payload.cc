#include "payload.h"

#include <tvm/ffi/error.h>

#include <cstring>

namespace relax_tapml::opencl {
namespace {

class Reader {
 public:
  explicit Reader(const std::string& bytes) : bytes_(bytes) {}

  template <typename T>
  T Number() {
    T number;
    std::memcpy(&number, Take(sizeof(T)), sizeof(T));
    return number;
  }
  std::string Text() {
    const auto size = Number<uint64_t>();
    return {Take(size), size};
  }
  bool IsAtEnd() const { return next_ == bytes_.size(); }

 private:
  const char* Take(uint64_t size) {
    if (size > bytes_.size() - next_) {
      TVM_FFI_THROW(ValueError) << "OpenCL: the saved module ends early";
    }
    const char* begin = bytes_.data() + next_;
    next_ += size;
    return begin;
  }

  const std::string& bytes_;
  size_t next_ = 0;
};

Signature ReadSignature(Reader* reader) {
  Signature signature;
  reader->Text();  // The key of the map, which is the name.
  signature.name = reader->Text();
  for (auto count = reader->Number<uint64_t>(); count > 0; --count) {
    const auto code = reader->Number<uint8_t>(), bits = reader->Number<uint8_t>();
    signature.arguments.push_back({code, bits, reader->Number<uint16_t>()});
  }
  for (auto count = reader->Number<uint64_t>(); count > 0; --count) {
    signature.launch_tags.push_back(reader->Text());
  }
  // Tags of arguments, which only CUDA has.
  for (auto count = reader->Number<uint64_t>(); count > 0; --count) reader->Number<int32_t>();
  return signature;
}

}  // namespace

Payload ReadPayload(const std::string& bytes) {
  Reader reader(bytes);
  Payload payload;
  payload.format = reader.Text();
  for (auto count = reader.Number<uint64_t>(); count > 0; --count) {
    payload.kernels.push_back(ReadSignature(&reader));
  }
  payload.code = reader.Text();
  if (!reader.IsAtEnd()) TVM_FFI_THROW(ValueError) << "OpenCL: the saved module is too long";
  return payload;
}

}  // namespace relax_tapml::opencl
