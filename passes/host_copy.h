/*!
 * \file host_copy.h
 * \brief Copy a tensor of any device into host memory.
 */
#ifndef RELAX_TAPML_PASSES_HOST_COPY_H_
#define RELAX_TAPML_PASSES_HOST_COPY_H_

#include <tvm/ffi/container/tensor.h>

#include <string>

namespace relax_tapml {

/*!
 * \brief Write the elements of `tensor`, packed and in row-major order, to `destination`.
 *
 * Any stride and byte offset is honoured on the host. Other devices are copied with
 * `runtime.TVMTensorCopyToBytes`, which synchronises with the device first.
 *
 * \param destination At least GetDataSize(tensor) bytes of host memory.
 * \param where Named in errors: the site whose value this is.
 * \throws tvm::ffi::Error for a strided tensor that cannot be copied element by element.
 */
void CopyToHost(const tvm::ffi::Tensor& tensor, void* destination, const std::string& where);

}  // namespace relax_tapml

#endif  // RELAX_TAPML_PASSES_HOST_COPY_H_
