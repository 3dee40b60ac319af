/*!
 * \file cuda_driver.h
 * \brief The part of CUDA's driver API that capture uses, loaded where a tensor is on such a GPU.
 *
 * The library links with no CUDA library, so it loads on machines without one.
 */
#ifndef RELAX_TAPML_PASSES_CUDA_DRIVER_H_
#define RELAX_TAPML_PASSES_CUDA_DRIVER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace relax_tapml {

using CudaResult = int;
using CudaStream = void*;  // Null is the legacy default stream.
using CudaEvent = void*;
using CudaAddress = uint64_t;

constexpr CudaResult kCudaSuccess = 0;
constexpr CudaResult kCudaNotReady = 600;
constexpr unsigned kCudaStreamNonBlocking = 1;
// The waiting thread sleeps; no time is recorded.
constexpr unsigned kCudaEventFlags = 1 | 2;

/*! \brief The driver's functions. Their names are those of the API, without versions. */
struct CudaDriver {
  CudaResult (*cuInit)(unsigned flags);
  CudaResult (*cuGetErrorName)(CudaResult error, const char** text);
  CudaResult (*cuGetErrorString)(CudaResult error, const char** text);
  CudaResult (*cuDeviceGet)(int* device, int ordinal);
  CudaResult (*cuDevicePrimaryCtxRetain)(void** context, int device);
  CudaResult (*cuDevicePrimaryCtxRelease)(int device);
  CudaResult (*cuCtxPushCurrent)(void* context);
  CudaResult (*cuCtxPopCurrent)(void** context);
  CudaResult (*cuMemGetInfo)(size_t* free_bytes, size_t* total_bytes);
  CudaResult (*cuMemAlloc)(CudaAddress* address, size_t bytes);
  CudaResult (*cuMemFree)(CudaAddress address);
  CudaResult (*cuMemHostAlloc)(void** data, size_t bytes, unsigned flags);
  CudaResult (*cuMemFreeHost)(void* data);
  CudaResult (*cuMemcpyDtoDAsync)(CudaAddress to, CudaAddress from, size_t bytes, CudaStream);
  CudaResult (*cuMemcpyDtoHAsync)(void* to, CudaAddress from, size_t bytes, CudaStream);
  CudaResult (*cuStreamCreate)(CudaStream* stream, unsigned flags);
  CudaResult (*cuStreamDestroy)(CudaStream stream);
  CudaResult (*cuStreamSynchronize)(CudaStream stream);
  CudaResult (*cuStreamWaitEvent)(CudaStream stream, CudaEvent event, unsigned flags);
  CudaResult (*cuEventCreate)(CudaEvent* event, unsigned flags);
  CudaResult (*cuEventDestroy)(CudaEvent event);
  CudaResult (*cuEventRecord)(CudaEvent event, CudaStream stream);
  CudaResult (*cuEventQuery)(CudaEvent event);
  CudaResult (*cuEventSynchronize)(CudaEvent event);

  /*!
   * \brief Load a driver.
   * \param library For dlopen, `libcuda.so.1`.
   * \param why_not Set where it is not returned.
   * \return The functions, valid until the process ends; null where there is no such driver.
   */
  static std::shared_ptr<const CudaDriver> Load(const std::string& library, std::string* why_not);

  /*! \brief Throw a RuntimeError that says what could not be done, unless `result` is success. */
  void Check(CudaResult result, const char* function, const std::string& what) const;
  /*! \brief Name and description of an error. */
  std::string ErrorText(CudaResult error) const;
};

/*! \brief A GPU and the context that TVM uses on it. All members may be called from any thread. */
class CudaDevice {
 public:
  /*! \brief Open a GPU; null, with `why_not` set, where that is not possible. */
  static std::shared_ptr<const CudaDevice> Open(const std::string& library, int ordinal,
                                                std::string* why_not);
  CudaDevice(std::shared_ptr<const CudaDriver> driver, int device, void* context)
      : driver_(std::move(driver)), device_(device), context_(context) {}
  ~CudaDevice() { driver_->cuDevicePrimaryCtxRelease(device_); }
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  const CudaDriver& driver() const { return *driver_; }

  /*! \brief Makes the GPU the calling thread's for as long as it exists. */
  class Scope {
   public:
    explicit Scope(const CudaDevice& device) : driver_(device.driver()) {
      is_pushed_ = driver_.cuCtxPushCurrent(device.context_) == kCudaSuccess;
    }
    ~Scope() {
      void* popped = nullptr;
      if (is_pushed_) driver_.cuCtxPopCurrent(&popped);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    const CudaDriver& driver_;
    bool is_pushed_;
  };

 private:
  const std::shared_ptr<const CudaDriver> driver_;
  const int device_;
  void* const context_;
};

}  // namespace relax_tapml

#endif  // RELAX_TAPML_PASSES_CUDA_DRIVER_H_
