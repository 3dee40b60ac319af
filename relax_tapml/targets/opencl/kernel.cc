#include "kernel.h"

#include <dlpack/dlpack.h>
#include <tvm/ffi/dtype.h>
#include <tvm/ffi/extra/c_env_api.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <sstream>

#include "devices.h"
#include "memory.h"
#include "work_items.h"

namespace relax_tapml::opencl {
namespace {

constexpr std::array<const char*, 6> kTags = {"blockIdx.x",  "blockIdx.y",  "blockIdx.z",
                                              "threadIdx.x", "threadIdx.y", "threadIdx.z"};

bool IsPointer(DLDataType type) { return type.code == kDLOpaqueHandle; }

bool IsSupported(DLDataType type) {
  if (IsPointer(type)) return true;
  if (type.lanes != 1) return false;
  switch (type.code) {
    case kDLInt:
    case kDLUInt:
    case kDLBool:
      return type.bits == 8 || type.bits == 16 || type.bits == 32 || type.bits == 64;
    case kDLFloat:
      return type.bits == 16 || type.bits == 32 || type.bits == 64;
    default:
      return false;
  }
}

// Rounds to the nearest float16, ties to even.
uint16_t HalfBits(double value) {
  const auto bits = std::bit_cast<uint64_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 48 & 0x8000);
  const uint64_t magnitude = bits & ~(uint64_t{1} << 63);
  const double size = std::bit_cast<double>(magnitude);
  if (size != size) return sign | 0x7E00;
  if (size >= 65520.0) return sign | 0x7C00;  // It rounds to infinity.
  if (size < 0x1p-14) {
    // Multiples of 2**-24: adding 2**28 rounds to these, as the last bit of the sum counts them.
    return sign | static_cast<uint16_t>(std::bit_cast<uint64_t>(size + 0x1p28) & 0xFFFF);
  }
  const uint64_t kept = magnitude >> 42, rest = magnitude & ((uint64_t{1} << 42) - 1);
  const uint64_t half = uint64_t{1} << 41;
  const uint64_t rounded = kept + (rest > half || (rest == half && (kept & 1)));
  return sign | static_cast<uint16_t>(rounded - (uint64_t{1023 - 15} << 10));
}

std::string BuildLog(cl_program program, cl_device_id device) {
  constexpr size_t kMost = 2000;
  size_t size = 0;
  const Cl& cl = RequireCl();
  cl.clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, 0, nullptr, &size);
  std::string log(size, '\0');
  cl.clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, size, log.data(), nullptr);
  return std::string(log.c_str()).substr(0, kMost);
}

}  // namespace

Program::~Program() {
  for (const auto& item : built_) RequireCl().clReleaseProgram(item.second);
}

Program::Program(const std::string& source) : source_(OrderedSource(source)) {
  if (CountDevices() > 0) Built(0);
}

cl_kernel Program::MakeKernel(int device, const std::string& name) {
  std::lock_guard<std::mutex> lock(mutex_);
  cl_int status;
  const cl_kernel kernel = RequireCl().clCreateKernel(Built(device), name.c_str(), &status);
  Check(status, "clCreateKernel of " + name);
  return kernel;
}

cl_program Program::Built(int device) {
  const auto found = built_.find(device);
  if (found != built_.end()) return found->second;
  const Cl& cl = RequireCl();
  const ClDeviceState& state = GetDevice(device);
  const char* text = source_.c_str();
  cl_int status;
  const cl_program program =
      cl.clCreateProgramWithSource(state.context, 1, &text, nullptr, &status);
  Check(status, "clCreateProgramWithSource");
  status = cl.clBuildProgram(program, 1, &state.id, BuildOptions(), nullptr, nullptr);
  if (status != CL_SUCCESS) {
    const std::string log = BuildLog(program, state.id);
    cl.clReleaseProgram(program);
    TVM_FFI_THROW(RuntimeError) << "OpenCL: " << state.Text(CL_DEVICE_NAME)
                                << " cannot compile the kernel: " << StatusText(status) << ": "
                                << log;
  }
  built_[device] = program;
  return program;
}

Kernel::Kernel(std::shared_ptr<Program> program, Signature signature)
    : program_(std::move(program)), signature_(std::move(signature)) {
  for (const DLDataType& type : signature_.arguments) {
    if (!IsSupported(type)) {
      TVM_FFI_THROW(ValueError) << "OpenCL: kernel " << signature_.name
                                << " takes an argument of type "
                                << tvm::ffi::DLDataTypeToString(type)
                                << ", which cannot be passed";
    }
  }
  for (const std::string& tag : signature_.launch_tags) {
    const auto found = std::find(kTags.begin(), kTags.end(), tag);
    if (found == kTags.end()) {
      TVM_FFI_THROW(ValueError) << "OpenCL: kernel " << signature_.name << " is launched with "
                                << tag << ", which OpenCL does not have";
    }
    axes_.push_back(static_cast<int>(found - kTags.begin()));
  }
}

Kernel::~Kernel() {
  for (const auto& item : made_) RequireCl().clReleaseKernel(item.second);
}

void Kernel::operator()(tvm::ffi::PackedArgs args) {
  const Cl& cl = RequireCl();
  const int count = static_cast<int>(signature_.arguments.size());
  const int device = DeviceOf(args);
  const Range range = LaunchRange(args);
  std::array<size_t, 3> all;
  for (int axis = 0; axis < 3; ++axis) all[axis] = range.groups[axis] * range.items[axis];
  if (all[0] * all[1] * all[2] == 0) return;
  Queue& queue = QueueOf(device, TVMFFIEnvGetStream(kDLOpenCL, device));
  cl_event event;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (made_.count(device) == 0) made_[device] = program_->MakeKernel(device, signature_.name);
    const cl_kernel kernel = made_.at(device);
    for (int index = 0; index < count; ++index) SetArgument(kernel, index, args[index]);
    const cl_int status = cl.clEnqueueNDRangeKernel(
        queue.handle(), kernel, 3, nullptr, all.data(), range.items.data(), 0, nullptr, &event);
    if (status != CL_SUCCESS) {
      const ClDeviceState& state = GetDevice(device);
      size_t most = 0;
      cl.clGetKernelWorkGroupInfo(kernel, state.id, CL_KERNEL_WORK_GROUP_SIZE, sizeof(most), &most,
                                  nullptr);
      TVM_FFI_THROW(RuntimeError)
          << "OpenCL: kernel " << signature_.name << " cannot be launched with " << range.groups[0]
          << " x " << range.groups[1] << " x " << range.groups[2] << " groups of "
          << range.items[0] << " x " << range.items[1] << " x " << range.items[2]
          << " work items on " << state.Text(CL_DEVICE_NAME) << ", which allows groups of " << most
          << ": " << StatusText(status);
    }
  }
  queue.Add(event, signature_.name);
}

Kernel::Range Kernel::LaunchRange(tvm::ffi::PackedArgs args) const {
  const size_t count = signature_.arguments.size();
  if (static_cast<size_t>(args.size()) != count + axes_.size()) {
    TVM_FFI_THROW(ValueError) << "OpenCL: kernel " << signature_.name << " takes " << count
                              << " arguments and " << axes_.size() << " extents, got "
                              << args.size();
  }
  Range range{{1, 1, 1}, {1, 1, 1}};
  for (size_t index = 0; index < axes_.size(); ++index) {
    const auto extent = args[static_cast<int>(count + index)].cast<int64_t>();
    if (extent < 0) {
      TVM_FFI_THROW(ValueError) << "OpenCL: kernel " << signature_.name << " is launched with "
                                << kTags[axes_[index]] << " = " << extent;
    }
    (axes_[index] < 3 ? range.groups : range.items)[axes_[index] % 3] = static_cast<size_t>(extent);
  }
  return range;
}

int Kernel::DeviceOf(tvm::ffi::PackedArgs args) const {
  int device = -1;
  for (size_t index = 0; index < signature_.arguments.size(); ++index) {
    if (!IsPointer(signature_.arguments[index])) continue;
    const void* pointer = args[static_cast<int>(index)].cast<void*>();
    if (pointer == nullptr) continue;
    const int found = Find(pointer, 0, ("argument of " + signature_.name).c_str()).device;
    if (device >= 0 && found != device) {
      TVM_FFI_THROW(ValueError) << "OpenCL: kernel " << signature_.name
                                << " gets buffers of devices " << device << " and " << found;
    }
    device = found;
  }
  return std::max(device, 0);
}

void Kernel::SetArgument(cl_kernel kernel, int index, const tvm::ffi::AnyView& value) const {
  const DLDataType type = signature_.arguments[index];
  std::array<unsigned char, 8> bytes{};
  size_t size = type.bits / 8;
  if (IsPointer(type)) {
    const void* pointer = value.cast<void*>();
    cl_mem buffer = nullptr;
    if (pointer != nullptr) {
      const Place place = Find(pointer, 0, "argument");
      if (place.offset != 0) {
        // Kernels get the whole buffer, and TVM passes offsets as numbers (elem_offset).
        TVM_FFI_THROW(ValueError) << "OpenCL: argument " << index << " of kernel "
                                  << signature_.name << " points to byte " << place.offset
                                  << " of a buffer; a kernel of OpenCL takes its beginning only";
      }
      buffer = place.buffer;
    }
    size = sizeof(cl_mem);
    std::memcpy(bytes.data(), &buffer, size);
  } else if (type.code == kDLFloat) {
    const auto number = value.cast<double>();
    const auto single = static_cast<float>(number);
    const uint16_t half = HalfBits(number);
    std::memcpy(bytes.data(),
                size == 8   ? static_cast<const void*>(&number)
                : size == 4 ? static_cast<const void*>(&single)
                            : static_cast<const void*>(&half),
                size);
  } else {
    const auto number = value.cast<int64_t>();  // The first bytes are the narrower integer.
    std::memcpy(bytes.data(), &number, size);
  }
  Check(RequireCl().clSetKernelArg(kernel, static_cast<cl_uint>(index), size, bytes.data()),
        "clSetKernelArg " + std::to_string(index) + " of kernel " + signature_.name);
}

}  // namespace relax_tapml::opencl
