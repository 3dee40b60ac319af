/*!
 * \file cache_state.cc
 * \brief Reads the state of a paged KV cache that a call depends on.
 *
 * It uses the cache's own accessors. Checkpoints of a cache hold one sequence of full attention,
 * whose id is 0.
 */
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/extra/json.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "capture.h"
#include "host_copy.h"

namespace relax_tapml {
namespace {

namespace ffi = tvm::ffi;
namespace json = tvm::ffi::json;

constexpr int64_t kSequence = 0;  // The only one that checkpoints hold.

ffi::Function Builtin(const std::string& name) {
  auto found = ffi::Function::GetGlobal("vm.builtin." + name);
  if (!found.has_value()) {
    TVM_FFI_THROW(RuntimeError) << "this TVM has no vm.builtin." << name;
  }
  return *found;
}

// The pages of the sequence in one layer, of shape (1, pages, 2, heads, page size, head size).
struct Pages {
  int64_t length;     // Tokens in them.
  int64_t page_size;  // Tokens in a page.
  ffi::Tensor tensor;
};

Pages ExportPages(const ffi::Any& cache, int64_t layer) {
  std::string text =
      Builtin("attention_kv_cache_get_checkpoint_metadata")(cache, kSequence).cast<std::string>();
  auto metadata = json::Parse(ffi::String(text)).cast<json::Object>();
  auto number = [&metadata](const char* name) {
    return metadata.at(ffi::String(name)).cast<int64_t>();
  };
  int64_t group = layer - number("layer_begin");
  auto groups = metadata.at(ffi::String("groups")).cast<json::Array>();
  if (group < 0 || group >= static_cast<int64_t>(groups.size())) {
    TVM_FFI_THROW(IndexError) << "the cache has no layer " << layer;
  }
  auto about = groups[group].cast<json::Object>();
  std::vector<int64_t> extents;
  for (const ffi::Any& extent : about.at(ffi::String("shape")).cast<json::Array>()) {
    extents.push_back(extent.cast<int64_t>());
  }
  DLDevice device =
      Builtin("attention_kv_cache_get_query_positions")(cache).cast<ffi::Tensor>().device();
  static const ffi::Function allocate =
      ffi::Function::GetGlobalRequired("runtime.TVMTensorAllocWithScope");
  DLDataType dtype = ffi::StringToDLDataType(about.at(ffi::String("dtype")).cast<ffi::String>());
  auto tensor =
      allocate(ffi::Shape(extents), dtype, device, ffi::Optional<ffi::String>(std::nullopt))
          .cast<ffi::Tensor>();
  Builtin("attention_kv_cache_export_page_group")(cache, kSequence, group, tensor);
  return {number("seq_length"), number("page_size"), tensor};
}

struct HostAllocator {
  std::vector<char> bytes;
  void AllocData(DLTensor* tensor) { tensor->data = bytes.data(); }
  void FreeData(DLTensor*) {}
};

// Returns the first `length` tokens of some pages, in as few pages as possible, padded with zeros.
ffi::Tensor FirstTokens(const Pages& pages, int64_t length) {
  std::vector<char> all(ffi::GetDataSize(*pages.tensor.GetDLTensorPtr()));
  CopyToHost(pages.tensor, all.data(), "a KV cache");
  ffi::ShapeView whole = pages.tensor.shape();
  std::vector<int64_t> shape(whole.begin(), whole.end());
  int64_t page_size = pages.page_size;
  shape[1] = (length + page_size - 1) / page_size;
  int64_t rows = shape[2] * shape[3];  // Keys and values of each head.
  size_t token_bytes = ffi::GetDataSize(shape[5], pages.tensor.dtype());
  all.resize(shape[1] * rows * page_size * token_bytes);
  int64_t left = length % page_size;
  if (left != 0) {
    char* last = all.data() + (shape[1] - 1) * rows * page_size * token_bytes;
    for (int64_t row = 0; row < rows; ++row) {
      char* behind = last + (row * page_size + left) * token_bytes;
      std::memset(behind, 0, (page_size - left) * token_bytes);
    }
  }
  return ffi::Tensor::FromNDAlloc(HostAllocator{std::move(all)}, ffi::Shape(shape),
                                  pages.tensor.dtype(), DLDevice{kDLCPU, 0});
}

// Returns a reason with TVM's message, without the condition that failed.
ffi::String Reason(const ffi::Error& error) {
  std::string text = error.message();
  size_t at = text.find(" is false: ");
  if (at != std::string::npos) text = text.substr(at + std::strlen(" is false: "));
  return ffi::String("its KV cache cannot be recorded: " + text.substr(0, text.find('\n')));
}

bool IsRecording(const ffi::AnyView& frame) {
  const FrameObj* found = frame.as<FrameObj>();
  return found != nullptr && found->is_recording();
}

// Returns the number of tokens before the forward pass, the number it adds, and the pages with the
// tokens before; or a reason, where these cannot be read. Without a recorder, returns nulls.
ffi::Array<ffi::Any> Before(ffi::AnyView frame, ffi::Any cache, int64_t layer) {
  if (!IsRecording(frame)) return {nullptr, nullptr, nullptr};
  try {
    Pages pages = ExportPages(cache, layer);
    int64_t total = Builtin("attention_kv_cache_get_total_sequence_length")(cache).cast<int64_t>();
    if (total != pages.length) {
      TVM_FFI_THROW(ValueError) << "it holds more than one sequence";
    }
    int64_t added = Builtin("attention_kv_cache_get_query_positions")(cache)
                        .cast<ffi::Tensor>()
                        .shape()[0];
    int64_t before = pages.length - added;
    return {before, added, FirstTokens(pages, before)};
  } catch (const ffi::Error& error) {
    return {Reason(error), nullptr, nullptr};
  }
}

// Returns the pages after the call, or a reason where these cannot be read; null without a
// recorder.
ffi::Any After(ffi::AnyView frame, ffi::Any cache, int64_t layer) {
  if (!IsRecording(frame)) return nullptr;
  try {
    Pages pages = ExportPages(cache, layer);
    return FirstTokens(pages, pages.length);
  } catch (const ffi::Error& error) {
    return Reason(error);
  }
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef().def("relax_tapml.cache.before", Before).def("relax_tapml.cache.after", After);
}

}  // namespace relax_tapml
