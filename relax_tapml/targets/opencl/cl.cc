#include "cl.h"

#include <dlfcn.h>
#include <tvm/ffi/error.h>

#include <map>

namespace relax_tapml::opencl {
namespace {

template <typename F>
bool LoadSymbol(void* library, const char* name, F* function) {
  *function = reinterpret_cast<F>(dlsym(library, name));
  return *function != nullptr;
}

const Cl* Load() {
  void* library = nullptr;
  // Those of _list_devices.py: loaders of Linux and, where one is installed, of macOS, whose own
  // comes last.
  for (const char* name : {"libOpenCL.so.1", "libOpenCL.so", "libOpenCL.1.dylib", "libOpenCL.dylib",
                           "/System/Library/Frameworks/OpenCL.framework/OpenCL"}) {
    library = library != nullptr ? library : dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  if (library == nullptr) return nullptr;
  static Cl cl;
  bool is_whole = true;
#define RELAX_TAPML_LOAD(name) is_whole = LoadSymbol(library, #name, &cl.name) && is_whole
  RELAX_TAPML_LOAD(clGetPlatformIDs);
  RELAX_TAPML_LOAD(clGetDeviceIDs);
  RELAX_TAPML_LOAD(clGetDeviceInfo);
  RELAX_TAPML_LOAD(clCreateContext);
  RELAX_TAPML_LOAD(clCreateCommandQueue);
  RELAX_TAPML_LOAD(clReleaseCommandQueue);
  RELAX_TAPML_LOAD(clCreateBuffer);
  RELAX_TAPML_LOAD(clReleaseMemObject);
  RELAX_TAPML_LOAD(clEnqueueReadBuffer);
  RELAX_TAPML_LOAD(clEnqueueWriteBuffer);
  RELAX_TAPML_LOAD(clEnqueueCopyBuffer);
  RELAX_TAPML_LOAD(clEnqueueMarkerWithWaitList);
  RELAX_TAPML_LOAD(clEnqueueBarrierWithWaitList);
  RELAX_TAPML_LOAD(clFlush);
  RELAX_TAPML_LOAD(clFinish);
  RELAX_TAPML_LOAD(clCreateProgramWithSource);
  RELAX_TAPML_LOAD(clBuildProgram);
  RELAX_TAPML_LOAD(clGetProgramBuildInfo);
  RELAX_TAPML_LOAD(clReleaseProgram);
  RELAX_TAPML_LOAD(clCreateKernel);
  RELAX_TAPML_LOAD(clReleaseKernel);
  RELAX_TAPML_LOAD(clSetKernelArg);
  RELAX_TAPML_LOAD(clGetKernelWorkGroupInfo);
  RELAX_TAPML_LOAD(clEnqueueNDRangeKernel);
  RELAX_TAPML_LOAD(clGetEventInfo);
  RELAX_TAPML_LOAD(clReleaseEvent);
#undef RELAX_TAPML_LOAD
  return is_whole ? &cl : nullptr;
}

}  // namespace

const Cl* FindCl() {
  static const Cl* const cl = Load();
  return cl;
}

const Cl& RequireCl() {
  const Cl* cl = FindCl();
  if (cl == nullptr) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: this machine has no libOpenCL with OpenCL 1.2";
  }
  return *cl;
}

std::string StatusText(cl_int status) {
  static const std::map<cl_int, const char*> names = {
      {-1, "CL_DEVICE_NOT_FOUND"},
      {-2, "CL_DEVICE_NOT_AVAILABLE"},
      {-3, "CL_COMPILER_NOT_AVAILABLE"},
      {-4, "CL_MEM_OBJECT_ALLOCATION_FAILURE"},
      {-5, "CL_OUT_OF_RESOURCES"},
      {-6, "CL_OUT_OF_HOST_MEMORY"},
      {-8, "CL_MEM_COPY_OVERLAP"},
      {-11, "CL_BUILD_PROGRAM_FAILURE"},
      {-12, "CL_MAP_FAILURE"},
      {-14, "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST"},
      {-15, "CL_COMPILE_PROGRAM_FAILURE"},
      {-16, "CL_LINKER_NOT_AVAILABLE"},
      {-17, "CL_LINK_PROGRAM_FAILURE"},
      {-30, "CL_INVALID_VALUE"},
      {-33, "CL_INVALID_DEVICE"},
      {-34, "CL_INVALID_CONTEXT"},
      {-36, "CL_INVALID_COMMAND_QUEUE"},
      {-38, "CL_INVALID_MEM_OBJECT"},
      {-42, "CL_INVALID_BINARY"},
      {-43, "CL_INVALID_BUILD_OPTIONS"},
      {-44, "CL_INVALID_PROGRAM"},
      {-45, "CL_INVALID_PROGRAM_EXECUTABLE"},
      {-46, "CL_INVALID_KERNEL_NAME"},
      {-48, "CL_INVALID_KERNEL"},
      {-49, "CL_INVALID_ARG_INDEX"},
      {-50, "CL_INVALID_ARG_VALUE"},
      {-51, "CL_INVALID_ARG_SIZE"},
      {-52, "CL_INVALID_KERNEL_ARGS"},
      {-53, "CL_INVALID_WORK_DIMENSION"},
      {-54, "CL_INVALID_WORK_GROUP_SIZE"},
      {-55, "CL_INVALID_WORK_ITEM_SIZE"},
      {-56, "CL_INVALID_GLOBAL_OFFSET"},
      {-58, "CL_INVALID_EVENT"},
      {-59, "CL_INVALID_OPERATION"},
      {-61, "CL_INVALID_BUFFER_SIZE"},
      {-63, "CL_INVALID_GLOBAL_WORK_SIZE"},
      {-1001, "CL_PLATFORM_NOT_FOUND_KHR"},
  };
  const auto found = names.find(status);
  const std::string number = std::to_string(status);
  return found == names.end() ? "status " + number : found->second + (" (" + number + ")");
}

void Check(cl_int status, const std::string& action) {
  if (status != CL_SUCCESS) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: " << action << " failed: " << StatusText(status);
  }
}

}  // namespace relax_tapml::opencl
