#include "queue.h"

#include <tvm/ffi/error.h>

namespace relax_tapml::opencl {
namespace {

constexpr size_t kMostLaunches = 256;

}  // namespace

Queue::Queue(cl_context context, cl_device_id device) {
  cl_int status;
  handle_ = RequireCl().clCreateCommandQueue(context, device, 0, &status);
  Check(status, "clCreateCommandQueue");
}

Queue::~Queue() {
  for (const Launch& launch : launches_) RequireCl().clReleaseEvent(launch.event);
  RequireCl().clReleaseCommandQueue(handle_);
}

void Queue::Add(cl_event event, const std::string& kernel) {
  std::string failure;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    launches_.push_back({event, kernel});
    if (launches_.size() > kMostLaunches) {
      Check(RequireCl().clFlush(handle_), "clFlush");
      failure = ForgetFinished();
    }
  }
  if (!failure.empty()) TVM_FFI_THROW(RuntimeError) << failure;
}

void Queue::Finish() {
  const cl_int status = RequireCl().clFinish(handle_);
  std::string failure;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    failure = ForgetFinished();
  }
  if (!failure.empty()) TVM_FFI_THROW(RuntimeError) << failure;
  Check(status, "clFinish");
}

std::string Queue::ForgetFinished() {
  const Cl& cl = RequireCl();
  std::string failure;
  while (!launches_.empty()) {
    const Launch& launch = launches_.front();
    cl_int state = CL_COMPLETE;
    const cl_int status = cl.clGetEventInfo(launch.event, CL_EVENT_COMMAND_EXECUTION_STATUS,
                                            sizeof(state), &state, nullptr);
    if (status == CL_SUCCESS && state > CL_COMPLETE) break;  // It still runs or waits.
    if (failure.empty() && (status != CL_SUCCESS || state < 0)) {
      failure = "OpenCL: kernel " + launch.kernel + " failed while it ran: " +
                StatusText(status != CL_SUCCESS ? status : state);
    }
    cl.clReleaseEvent(launch.event);
    launches_.pop_front();
  }
  return failure;
}

}  // namespace relax_tapml::opencl
