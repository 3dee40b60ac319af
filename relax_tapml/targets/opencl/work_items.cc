#include "work_items.h"

#include <tvm/ffi/error.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <string_view>

namespace relax_tapml::opencl {
namespace {

constexpr const char* kVariable = "RELAX_TAPML_OPENCL_WORK_ITEMS";

constexpr const char* kReversedIds = R"(
static inline size_t relax_tapml_local_id(uint axis) {
  return get_local_size(axis) - 1 - get_local_id(axis);
}
static inline size_t relax_tapml_group_id(uint axis) {
  return get_num_groups(axis) - 1 - get_group_id(axis);
}
static inline size_t relax_tapml_global_id(uint axis) {
  return get_global_size(axis) - 1 - get_global_id(axis);
}
#define get_local_id relax_tapml_local_id
#define get_group_id relax_tapml_group_id
#define get_global_id relax_tapml_global_id
)";

// One work item a group; volatile, since nothing reads what it writes.
constexpr const char* kFill = R"(
__kernel void fill(__local volatile uint* memory, uint count) {
  for (uint i = 0; i < count; ++i) memory[i] = 0xFFFFFFFF;
}
)";
// More than one for each compute unit, so that each gets some.
constexpr size_t kGroupsPerUnit = 4;

std::optional<WorkItems> ReadOrder() {
  const char* value = std::getenv(kVariable);
  const std::string_view order = value == nullptr ? "" : value;
  if (order.empty()) return std::nullopt;
  if (order == "in-order") return WorkItems::kInOrder;
  if (order == "reversed") return WorkItems::kReversed;
  TVM_FFI_THROW(ValueError) << kVariable << ": expected in-order or reversed, got " << order;
  TVM_FFI_UNREACHABLE();
}

// Returns the kernel of kFill on a device; the caller holds a lock.
cl_kernel FillKernel(const ClDeviceState& device) {
  static auto* const made = new std::map<cl_device_id, cl_kernel>;
  if (made->count(device.id) == 0) {
    const Cl& cl = RequireCl();
    cl_int status;
    const char* source = kFill;
    const cl_program program =
        cl.clCreateProgramWithSource(device.context, 1, &source, nullptr, &status);
    Check(status, "clCreateProgramWithSource");
    Check(cl.clBuildProgram(program, 1, &device.id, "", nullptr, nullptr), "clBuildProgram");
    const cl_kernel kernel = cl.clCreateKernel(program, "fill", &status);
    Check(status, "clCreateKernel");
    made->emplace(device.id, kernel);
  }
  return made->at(device.id);
}

}  // namespace

std::optional<WorkItems> WorkItemOrder() {
  static const std::optional<WorkItems> order = ReadOrder();
  return order;
}

std::string OrderedSource() { return WorkItemOrder() == WorkItems::kReversed ? kReversedIds : ""; }

const char* BuildOptions() { return WorkItemOrder() ? "-cl-opt-disable" : ""; }

void FillLocalMemory(const ClDeviceState& device, cl_kernel kernel, cl_command_queue queue) {
  if (!WorkItemOrder()) return;
  const Cl& cl = RequireCl();
  cl_ulong size = 0;
  Check(cl.clGetKernelWorkGroupInfo(kernel, device.id, CL_KERNEL_LOCAL_MEM_SIZE, sizeof(size),
                                    &size, nullptr),
        "clGetKernelWorkGroupInfo");
  if (size == 0) return;
  static auto* const mutex = new std::mutex;  // Guards the arguments that OpenCL keeps.
  std::lock_guard<std::mutex> lock(*mutex);
  const cl_kernel fill = FillKernel(device);
  const cl_uint count = static_cast<cl_uint>((size + sizeof(cl_uint) - 1) / sizeof(cl_uint));
  const size_t groups = kGroupsPerUnit * device.Info<cl_uint>(CL_DEVICE_MAX_COMPUTE_UNITS), one = 1;
  Check(cl.clSetKernelArg(fill, 0, count * sizeof(cl_uint), nullptr), "clSetKernelArg");
  Check(cl.clSetKernelArg(fill, 1, sizeof(count), &count), "clSetKernelArg");
  Check(cl.clEnqueueNDRangeKernel(queue, fill, 1, nullptr, &groups, &one, 0, nullptr, nullptr),
        "clEnqueueNDRangeKernel");
}

}  // namespace relax_tapml::opencl
