// A kernel of a program, called as TVM's host code calls kernels.
#pragma once

#include <tvm/ffi/function.h>

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cl.h"
#include "payload.h"

namespace relax_tapml::opencl {

// Source of OpenCL C, compiled for the first device at once, since one that it cannot be compiled
// for must not be loaded, and for others when a kernel is first launched there. Thread-safe.
class Program {
 public:
  // See OrderedSource for what is compiled. Without a device nothing is.
  // Throws a RuntimeError that has the compiler's messages.
  explicit Program(const std::string& source);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Returns a new kernel. Throws as the constructor does.
  cl_kernel MakeKernel(int device, const std::string& name);

 private:
  // The caller holds the lock.
  cl_program Built(int device);

  const std::string source_;
  std::mutex mutex_;  // Guards the map; held while a device's compiler runs.
  std::map<int, cl_program> built_;
};

// Thread-safe. The launches of a kernel are enqueued one after the other.
class Kernel {
 public:
  // Throws a ValueError if a launch tag or the type of an argument is not supported.
  Kernel(std::shared_ptr<Program> program, Signature signature);
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  // Launches it on the device of its buffers: the arguments, then an extent for each launch tag.
  // A launch of no work items does nothing.
  void operator()(tvm::ffi::PackedArgs args);

 private:
  struct Range {
    std::array<size_t, 3> groups, items;  // Of all groups, and in each.
  };

  // Returns the extents that follow the arguments.
  Range LaunchRange(tvm::ffi::PackedArgs args) const;
  // Returns the number of the device that all buffers are on.
  int DeviceOf(tvm::ffi::PackedArgs args) const;
  void SetArgument(cl_kernel kernel, int index, const tvm::ffi::AnyView& value) const;

  const std::shared_ptr<Program> program_;
  const Signature signature_;
  std::vector<int> axes_;  // Of each launch tag: 0 to 2 of the grid, 3 to 5 of a group.
  std::mutex mutex_;       // Guards the map, and the arguments that OpenCL keeps in a kernel.
  std::map<int, cl_kernel> made_;
};

}  // namespace relax_tapml::opencl
