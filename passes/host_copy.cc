/*!
 * \file host_copy.cc
 */
#include "host_copy.h"

#include <tvm/ffi/error.h>
#include <tvm/ffi/function.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace relax_tapml {
namespace {

namespace ffi = tvm::ffi;

// Row-major order over `tensor`'s shape; strides are in elements and may be zero or negative.
void CopyStrided(const DLTensor& tensor, const char* source, char* destination) {
  size_t element_bytes = ffi::GetDataSize(1, tensor.dtype);
  std::vector<int64_t> index(tensor.ndim, 0);
  int64_t offset = 0;
  while (true) {
    std::memcpy(destination, source + offset * static_cast<int64_t>(element_bytes), element_bytes);
    destination += element_bytes;
    int axis = tensor.ndim - 1;
    for (; axis >= 0; --axis) {
      offset += tensor.strides[axis];
      if (++index[axis] < tensor.shape[axis]) break;
      offset -= tensor.strides[axis] * tensor.shape[axis];
      index[axis] = 0;
    }
    if (axis < 0) return;
  }
}

}  // namespace

void CopyToHost(const ffi::Tensor& tensor, void* destination, const std::string& where) {
  const DLTensor& view = *tensor.GetDLTensorPtr();
  size_t bytes = ffi::GetDataSize(view);
  if (bytes == 0) return;
  bool is_contiguous = ffi::IsContiguous(view);
  if (view.device.device_type != kDLCPU) {
    if (!is_contiguous) {
      TVM_FFI_THROW(ValueError) << "Cannot capture a value of " << where
                                << ": expected a contiguous tensor, got a strided one on device "
                                << "type " << view.device.device_type
                                << ". Copy it before the call.";
    }
    static const ffi::Function copy_to_bytes =
        ffi::Function::GetGlobalRequired("runtime.TVMTensorCopyToBytes");
    copy_to_bytes(tensor, destination, static_cast<int64_t>(bytes));
    return;
  }
  const char* source = static_cast<const char*>(view.data) + view.byte_offset;
  if (is_contiguous) {
    std::memcpy(destination, source, bytes);
    return;
  }
  if (view.dtype.bits * view.dtype.lanes % 8 != 0) {
    TVM_FFI_THROW(ValueError) << "Cannot capture a value of " << where
                              << ": expected a contiguous tensor, got a strided one of packed "
                              << ffi::DLDataTypeToString(view.dtype)
                              << ". Copy it before the call.";
  }
  CopyStrided(view, source, static_cast<char*>(destination));
}

}  // namespace relax_tapml
