// The OpenCL devices of this machine, as TVM numbers them.
#pragma once

#include <tvm/ffi/error.h>

#include <memory>
#include <string>
#include <vector>

#include "cl.h"
#include "queue.h"

namespace relax_tapml::opencl {

// A device with a context of its own, since devices of two platforms cannot share one. Lives as
// long as the process.
struct ClDeviceState {
  cl_device_id id;
  cl_context context;
  std::unique_ptr<Queue> queue;  // TVM's default stream.

  template <typename T>
  T Info(cl_uint what) const {
    T value{};
    Check(RequireCl().clGetDeviceInfo(id, what, sizeof(value), &value, nullptr),
          "clGetDeviceInfo");
    return value;
  }
  std::string Text(cl_uint what) const;
};

// Returns how many devices there are; 0 without libOpenCL or without a platform. GPUs come first,
// CPUs last, each kind in the order of the platforms. Where an order of work items is set, only CPUs
// count.
int CountDevices();

// Returns a device, whose context is made by the first call. Throws a RuntimeError if there is no
// device of that number. Thread-safe.
ClDeviceState& GetDevice(int number);

// Returns the queue of a stream of TVM's; of null, the device's own.
inline Queue& QueueOf(int device, void* stream) {
  return stream == nullptr ? *GetDevice(device).queue : *static_cast<Queue*>(stream);
}

}  // namespace relax_tapml::opencl
