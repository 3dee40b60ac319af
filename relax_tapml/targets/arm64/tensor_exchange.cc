/*!
 * \file tensor_exchange.cc
 * \brief See tensor_exchange.h.
 */
#include "tensor_exchange.h"

#include <fcntl.h>
#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/dtype.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/string.h>
#include <unistd.h>

#include <stdexcept>
#include <utility>
#include <vector>

#include "check.h"

namespace relax_tapml {
namespace ffi = tvm::ffi;

/*! \brief Return the memory of a tensor that a file is read into or written from. */
static std::pair<char*, size_t> Bytes(const DLTensor* tensor) {
  if (tensor->device.device_type != kDLCPU || !ffi::IsContiguous(*tensor)) {
    throw std::invalid_argument("--exchange: expected a contiguous tensor of the CPU");
  }
  return {static_cast<char*>(tensor->data) + tensor->byte_offset, ffi::GetDataSize(*tensor)};
}

void RegisterExchange(const std::string& folder) {
  int file = open((folder + "/tensor").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  Check(file >= 0, "--exchange");
  auto take = [file](ffi::PackedArgs args, ffi::Any* result) {
    std::vector<int64_t> shape;
    for (int i = 2; i < args.size(); ++i) shape.push_back(args[i].cast<int64_t>());
    static ffi::Function make = ffi::Function::GetGlobalRequired("runtime.TVMTensorAllocWithScope");
    auto tensor = make(ffi::Shape(shape), ffi::StringToDLDataType(args[1].cast<ffi::String>()),
                       args[0].cast<DLDevice>(), nullptr)
                      .cast<ffi::Tensor>();
    auto [data, size] = Bytes(tensor.GetDLTensorPtr());
    for (size_t done = 0; done < size;) {
      ssize_t got = pread(file, data + done, size - done, static_cast<off_t>(done));
      Check(got > 0, "reading a tensor");
      done += static_cast<size_t>(got);
    }
    *result = tensor;
  };
  auto give = [file](DLTensor* tensor) {
    auto [data, size] = Bytes(tensor);
    for (size_t done = 0; done < size;) {
      ssize_t put = pwrite(file, data + done, size - done, static_cast<off_t>(done));
      Check(put > 0, "writing a tensor");
      done += static_cast<size_t>(put);
    }
  };
  const std::string prefix = "relax_tapml.targets.tensor_";
  ffi::Function::SetGlobal(prefix + "from_file", ffi::Function::FromPacked(take));
  ffi::Function::SetGlobal(prefix + "to_file", ffi::Function::FromTyped(give));
}

}  // namespace relax_tapml
