/*!
 * \file cuda_driver.cc
 */
#include "cuda_driver.h"

#include <dlfcn.h>
#include <tvm/ffi/error.h>

namespace relax_tapml {
namespace {

template <typename Function>
bool Find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

}  // namespace

std::shared_ptr<const CudaDriver> CudaDriver::Load(const std::string& library,
                                                   std::string* why_not) {
  // Never closed: memory and streams of the driver live as long as what was captured.
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    *why_not = "no CUDA driver: " + std::string(dlerror());
    return nullptr;
  }
  auto driver = std::make_shared<CudaDriver>();
  bool has_all = Find(handle, "cuInit", &driver->cuInit) &&
                 Find(handle, "cuGetErrorName", &driver->cuGetErrorName) &&
                 Find(handle, "cuGetErrorString", &driver->cuGetErrorString) &&
                 Find(handle, "cuDeviceGet", &driver->cuDeviceGet) &&
                 Find(handle, "cuDevicePrimaryCtxRetain", &driver->cuDevicePrimaryCtxRetain) &&
                 Find(handle, "cuDevicePrimaryCtxRelease_v2",
                      &driver->cuDevicePrimaryCtxRelease) &&
                 Find(handle, "cuCtxPushCurrent_v2", &driver->cuCtxPushCurrent) &&
                 Find(handle, "cuCtxPopCurrent_v2", &driver->cuCtxPopCurrent) &&
                 Find(handle, "cuMemGetInfo_v2", &driver->cuMemGetInfo) &&
                 Find(handle, "cuMemAlloc_v2", &driver->cuMemAlloc) &&
                 Find(handle, "cuMemFree_v2", &driver->cuMemFree) &&
                 Find(handle, "cuMemHostAlloc", &driver->cuMemHostAlloc) &&
                 Find(handle, "cuMemFreeHost", &driver->cuMemFreeHost) &&
                 Find(handle, "cuMemcpyDtoDAsync_v2", &driver->cuMemcpyDtoDAsync) &&
                 Find(handle, "cuMemcpyDtoHAsync_v2", &driver->cuMemcpyDtoHAsync) &&
                 Find(handle, "cuStreamCreate", &driver->cuStreamCreate) &&
                 Find(handle, "cuStreamDestroy_v2", &driver->cuStreamDestroy) &&
                 Find(handle, "cuStreamSynchronize", &driver->cuStreamSynchronize) &&
                 Find(handle, "cuStreamWaitEvent", &driver->cuStreamWaitEvent) &&
                 Find(handle, "cuEventCreate", &driver->cuEventCreate) &&
                 Find(handle, "cuEventDestroy_v2", &driver->cuEventDestroy) &&
                 Find(handle, "cuEventRecord", &driver->cuEventRecord) &&
                 Find(handle, "cuEventQuery", &driver->cuEventQuery) &&
                 Find(handle, "cuEventSynchronize", &driver->cuEventSynchronize);
  if (!has_all) {
    *why_not = library + " lacks a function of CUDA's driver API";
    return nullptr;
  }
  return driver;
}

std::string CudaDriver::ErrorText(CudaResult error) const {
  const char* name = nullptr;
  const char* description = nullptr;
  cuGetErrorName(error, &name);
  cuGetErrorString(error, &description);
  std::string text = name == nullptr ? "CUDA error " + std::to_string(error) : name;
  return description == nullptr ? text : text + " (" + description + ")";
}

void CudaDriver::Check(CudaResult result, const char* function, const std::string& what) const {
  if (result == kCudaSuccess) return;
  TVM_FFI_THROW(RuntimeError) << what << ": " << function << " failed with " << ErrorText(result)
                              << ". An earlier kernel may be the cause: errors of a GPU appear "
                              << "late, and all that follows fails, too.";
}

std::shared_ptr<const CudaDevice> CudaDevice::Open(const std::string& library, int ordinal,
                                                   std::string* why_not) {
  std::shared_ptr<const CudaDriver> driver = CudaDriver::Load(library, why_not);
  if (driver == nullptr) return nullptr;
  int device = 0;
  void* context = nullptr;
  CudaResult result = driver->cuInit(0);
  if (result == kCudaSuccess) result = driver->cuDeviceGet(&device, ordinal);
  if (result == kCudaSuccess) result = driver->cuDevicePrimaryCtxRetain(&context, device);
  if (result != kCudaSuccess) {
    *why_not = "GPU " + std::to_string(ordinal) + " cannot be used: " + driver->ErrorText(result);
    return nullptr;
  }
  return std::make_shared<CudaDevice>(std::move(driver), device, context);
}

}  // namespace relax_tapml
