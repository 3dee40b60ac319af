// Queues of commands, which report the kernel that failed.
#pragma once

#include <deque>
#include <mutex>
#include <string>

#include "cl.h"

namespace relax_tapml::opencl {

// An in-order queue of a device. Thread-safe.
//
// A kernel may fail after it has been enqueued, and clFinish need not say so: the events of the
// kernels that have not been waited for are kept, and asked.
class Queue {
 public:
  Queue(cl_context context, cl_device_id device);
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  cl_command_queue handle() const { return handle_; }

  // Takes over the event of an enqueued kernel.
  void Add(cl_event event, const std::string& kernel);

  // Waits for all commands. Throws a RuntimeError that names the first kernel that failed.
  void Finish();

 private:
  struct Launch {
    cl_event event;
    std::string kernel;
  };

  // Forgets the launches that are over, oldest first; the caller holds the lock. Returns the first
  // failure, or an empty string.
  std::string ForgetFinished();

  cl_command_queue handle_;
  std::mutex mutex_;  // Guards the launches; never held while the queue is waited for.
  std::deque<Launch> launches_;
};

}  // namespace relax_tapml::opencl
