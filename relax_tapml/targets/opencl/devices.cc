#include "devices.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "work_items.h"

namespace relax_tapml::opencl {
namespace {

std::vector<cl_device_id> ListDevices() {
  const Cl* cl = FindCl();
  cl_uint count = 0;
  // A loader without a platform returns a status of its own.
  if (cl == nullptr || cl->clGetPlatformIDs(0, nullptr, &count) != CL_SUCCESS) return {};
  std::vector<cl_platform_id> platforms(count);
  Check(cl->clGetPlatformIDs(count, platforms.data(), nullptr), "clGetPlatformIDs");
  std::vector<std::pair<int, cl_device_id>> ranked;
  for (cl_platform_id platform : platforms) {
    // One platform without devices, or with a broken driver, does not hide the others.
    const auto get = [&](cl_uint room, cl_device_id* devices, cl_uint* found) {
      return cl->clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, room, devices, found) == CL_SUCCESS;
    };
    if (!get(0, nullptr, &count)) continue;
    std::vector<cl_device_id> devices(count);
    if (!get(count, devices.data(), nullptr)) continue;
    for (cl_device_id device : devices) {
      cl_ulong type = 0;
      cl->clGetDeviceInfo(device, CL_DEVICE_TYPE, sizeof(type), &type, nullptr);
      if (WorkItemOrder() && !(type & CL_DEVICE_TYPE_CPU)) continue;
      const int rank = type & CL_DEVICE_TYPE_GPU ? 0 : type & CL_DEVICE_TYPE_CPU ? 2 : 1;
      ranked.emplace_back(rank, device);
    }
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& one, const auto& other) { return one.first < other.first; });
  std::vector<cl_device_id> found;
  for (const auto& [rank, device] : ranked) found.push_back(device);
  return found;
}

const std::vector<cl_device_id>& Devices() {
  static const auto* const devices = new std::vector<cl_device_id>(ListDevices());
  return *devices;
}

}  // namespace

std::string ClDeviceState::Text(cl_uint what) const {
  size_t size = 0;
  Check(RequireCl().clGetDeviceInfo(id, what, 0, nullptr, &size), "clGetDeviceInfo");
  std::string text(size, '\0');
  Check(RequireCl().clGetDeviceInfo(id, what, size, text.data(), nullptr), "clGetDeviceInfo");
  return text.c_str();  // Without the zero at its end.
}

int CountDevices() { return static_cast<int>(Devices().size()); }

ClDeviceState& GetDevice(int number) {
  // Neither is ever destroyed: TVM frees memory while the process ends.
  static auto* const mutex = new std::mutex;
  static auto* const opened = new std::map<int, ClDeviceState>;
  if (number < 0 || number >= CountDevices()) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: there is no device " << number << "; this machine has "
                                << CountDevices();
  }
  std::lock_guard<std::mutex> lock(*mutex);
  const auto found = opened->find(number);
  if (found != opened->end()) return found->second;
  ClDeviceState state{Devices()[number], nullptr, nullptr};
  cl_int status;
  state.context = RequireCl().clCreateContext(nullptr, 1, &state.id, nullptr, nullptr, &status);
  Check(status, "clCreateContext");
  state.queue = std::make_unique<Queue>(state.context, state.id);
  return opened->emplace(number, std::move(state)).first->second;
}

}  // namespace relax_tapml::opencl
