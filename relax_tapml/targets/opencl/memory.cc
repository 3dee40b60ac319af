#include "memory.h"

#include <tvm/ffi/error.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <shared_mutex>

#include "devices.h"

namespace relax_tapml::opencl {
namespace {

// Above the addresses of processes, of x86-64 and of 64-bit ARM, which ignores the top byte.
constexpr uint64_t kFirstAddress = uint64_t{1} << 54;
// Ranges begin at multiples of this and leave at least as much between them.
constexpr uint64_t kPage = 4096;

struct Buffer {
  int device;
  cl_mem handle;
  size_t size_bytes;
};

struct Addresses {
  std::shared_mutex mutex;  // Guards the two below.
  std::map<uint64_t, Buffer> buffers;
  uint64_t next = kFirstAddress;
};

// Never destroyed: TVM frees memory while the process ends.
Addresses& All() {
  static auto* const all = new Addresses;
  return *all;
}

std::atomic<bool> is_ending = false;

}  // namespace

void* Allocate(int device, size_t size_bytes) {
  const ClDeviceState& state = GetDevice(device);
  // Registered when the driver is loaded, so that it is called before the driver's own ends.
  static const int registered = std::atexit([] { is_ending = true; });
  (void)registered;
  cl_int status;
  // OpenCL has no buffers of no bytes.
  const size_t size = std::max(size_bytes, size_t{1});
  const cl_mem handle =
      RequireCl().clCreateBuffer(state.context, CL_MEM_READ_WRITE, size, nullptr, &status);
  if (status != CL_SUCCESS) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: allocating " << size_bytes << " bytes on "
                                << state.Text(CL_DEVICE_NAME) << " failed: " << StatusText(status);
  }
  Addresses& all = All();
  std::unique_lock lock(all.mutex);
  const uint64_t address = all.next;
  all.next += (size / kPage + 2) * kPage;
  all.buffers[address] = {device, handle, size_bytes};
  return reinterpret_cast<void*>(address);
}

void Free(void* pointer) {
  if (pointer == nullptr || is_ending) return;
  Addresses& all = All();
  Buffer buffer;
  {
    std::unique_lock lock(all.mutex);
    const auto found = all.buffers.find(reinterpret_cast<uint64_t>(pointer));
    if (found == all.buffers.end()) {
      TVM_FFI_THROW(RuntimeError) << "OpenCL: " << pointer << " is freed and is no buffer";
    }
    buffer = found->second;
    all.buffers.erase(found);
  }
  Check(RequireCl().clReleaseMemObject(buffer.handle), "clReleaseMemObject");
}

Place Find(const void* pointer, size_t size_bytes, const char* purpose) {
  const auto address = reinterpret_cast<uint64_t>(pointer);
  Addresses& all = All();
  std::shared_lock lock(all.mutex);
  auto next = all.buffers.upper_bound(address);
  if (next != all.buffers.begin()) {
    const auto& [begin, buffer] = *--next;
    const uint64_t offset = address - begin;
    if (offset <= buffer.size_bytes && size_bytes <= buffer.size_bytes - offset) {
      return {buffer.device, buffer.handle, offset, buffer.size_bytes - offset};
    }
    if (offset <= buffer.size_bytes) {
      TVM_FFI_THROW(RuntimeError) << "OpenCL: " << purpose << " of " << size_bytes
                                  << " bytes at byte " << offset << " of a buffer of "
                                  << buffer.size_bytes;
    }
  }
  TVM_FFI_THROW(RuntimeError) << "OpenCL: " << purpose << ": " << pointer
                              << " is in no buffer of a device; was it freed?";
  TVM_FFI_UNREACHABLE();
}

}  // namespace relax_tapml::opencl
