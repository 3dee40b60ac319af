// TVM's interface to OpenCL devices: memory, copies, streams and what a device has.

#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/runtime/device_api.h>

#include <array>
#include <sstream>
#include <vector>

#include "devices.h"
#include "memory.h"
#include "queue.h"

namespace relax_tapml::opencl {
namespace {

using tvm::Device;
using tvm::ffi::Any;
using tvm::ffi::String;

// Stateless: devices, buffers and queues are behind GetDevice, Find and QueueOf.
class DeviceAPI final : public tvm::runtime::DeviceAPI {
 public:
  void SetDevice(Device) final {}  // Each call names its device.

  void GetAttr(Device device, tvm::runtime::DeviceAttrKind kind, Any* result) final {
    using namespace tvm::runtime;  // NOLINT: for the enumerators
    if (kind == kExist) {
      *result = static_cast<int>(device.device_id >= 0 && device.device_id < CountDevices());
      return;
    }
    const ClDeviceState& state = GetDevice(device.device_id);
    switch (kind) {
      case kMaxThreadsPerBlock:
        *result = static_cast<int64_t>(state.Info<size_t>(CL_DEVICE_MAX_WORK_GROUP_SIZE));
        break;
      case kMaxThreadDimensions: {
        const auto sizes = state.Info<std::array<size_t, 3>>(CL_DEVICE_MAX_WORK_ITEM_SIZES);
        std::ostringstream text;
        text << '[' << sizes[0] << ", " << sizes[1] << ", " << sizes[2] << ']';
        *result = String(text.str());
        break;
      }
      case kWarpSize:
        *result = 1;  // OpenCL 1.2 promises no work items that run in lock step.
        break;
      case kMaxSharedMemoryPerBlock:
        *result = static_cast<int64_t>(state.Info<cl_ulong>(CL_DEVICE_LOCAL_MEM_SIZE));
        break;
      case kComputeVersion:
      case kApiVersion:
        *result = String(state.Text(CL_DEVICE_VERSION));
        break;
      case kDriverVersion:
        *result = String(state.Text(CL_DRIVER_VERSION));
        break;
      case kDeviceName:
        *result = String(state.Text(CL_DEVICE_NAME));
        break;
      case kMaxClockRate:  // In kHz, as for CUDA.
        *result = static_cast<int64_t>(state.Info<cl_uint>(CL_DEVICE_MAX_CLOCK_FREQUENCY)) * 1000;
        break;
      case kMultiProcessorCount:
        *result = static_cast<int64_t>(state.Info<cl_uint>(CL_DEVICE_MAX_COMPUTE_UNITS));
        break;
      case kTotalGlobalMemory:
        *result = static_cast<int64_t>(state.Info<cl_ulong>(CL_DEVICE_GLOBAL_MEM_SIZE));
        break;
      default:
        break;  // OpenCL cannot say; TVM takes None for that.
    }
  }

  void* AllocDataSpace(Device device, size_t size_bytes, size_t /*alignment*/, DLDataType) final {
    return Allocate(device.device_id, size_bytes);  // Aligned for every type of OpenCL C.
  }

  // Memory of other scopes would be images, which TVM's base class refuses.
  using tvm::runtime::DeviceAPI::AllocDataSpace;

  void FreeDataSpace(Device, void* pointer) final { Free(pointer); }

  TVMStreamHandle CreateStream(Device device) final {
    const ClDeviceState& state = GetDevice(device.device_id);
    return new Queue(state.context, state.id);
  }

  void FreeStream(Device, TVMStreamHandle stream) final { delete static_cast<Queue*>(stream); }

  void StreamSync(Device device, TVMStreamHandle stream) final {
    QueueOf(device.device_id, stream).Finish();
  }

  void SyncStreamFromTo(Device device, TVMStreamHandle from, TVMStreamHandle to) final {
    const Cl& cl = RequireCl();
    cl_event event;
    const Queue& first = QueueOf(device.device_id, from);
    Check(cl.clEnqueueMarkerWithWaitList(first.handle(), 0, nullptr, &event), "clEnqueueMarker");
    // The other queue would wait for ever for what has not been submitted.
    Check(cl.clFlush(first.handle()), "clFlush");
    const cl_int status = cl.clEnqueueBarrierWithWaitList(QueueOf(device.device_id, to).handle(),
                                                          1, &event, nullptr);
    cl.clReleaseEvent(event);
    Check(status, "clEnqueueBarrier");
  }

 protected:
  // Copies have ended when this returns, except those within one device.
  void CopyDataFromTo(const void* from, size_t from_offset, void* to, size_t to_offset, size_t size,
                      Device from_device, Device to_device, DLDataType,
                      TVMStreamHandle stream) final {
    if (size == 0) return;
    const Cl& cl = RequireCl();
    const char* source = static_cast<const char*>(from) + from_offset;
    char* destination = static_cast<char*>(to) + to_offset;
    const bool is_from_cl = IsCl(from_device), is_to_cl = IsCl(to_device);
    if (is_from_cl && is_to_cl) {
      const Place read = Find(source, size, "copy"), written = Find(destination, size, "copy");
      if (read.device != written.device) {
        // Their contexts share no memory.
        std::vector<char> staged(size);
        CopyDataFromTo(from, from_offset, staged.data(), 0, size, from_device, Device{kDLCPU, 0},
                       DLDataType{}, nullptr);
        CopyDataFromTo(staged.data(), 0, to, to_offset, size, Device{kDLCPU, 0}, to_device,
                       DLDataType{}, stream);
        return;
      }
      if (read.buffer == written.buffer && read.offset == written.offset) return;
      Check(cl.clEnqueueCopyBuffer(QueueOf(read.device, stream).handle(), read.buffer,
                                   written.buffer, read.offset, written.offset, size, 0, nullptr,
                                   nullptr),
            "clEnqueueCopyBuffer");
    } else if (is_from_cl && to_device.device_type == kDLCPU) {
      const Place read = Find(source, size, "copy to the host");
      Queue& queue = QueueOf(read.device, stream);
      const cl_int status = cl.clEnqueueReadBuffer(queue.handle(), read.buffer, CL_TRUE,
                                                   read.offset, size, destination, 0, nullptr,
                                                   nullptr);
      queue.Finish();  // A kernel that failed is the better message.
      Check(status, "clEnqueueReadBuffer");
    } else if (is_to_cl && from_device.device_type == kDLCPU) {
      const Place written = Find(destination, size, "copy to the device");
      Check(cl.clEnqueueWriteBuffer(QueueOf(written.device, stream).handle(), written.buffer,
                                    CL_TRUE, written.offset, size, source, 0, nullptr, nullptr),
            "clEnqueueWriteBuffer");
    } else {
      TVM_FFI_THROW(RuntimeError) << "OpenCL: cannot copy from device type "
                                  << from_device.device_type << " to "
                                  << to_device.device_type;
    }
  }

 private:
  static bool IsCl(Device device) { return device.device_type == kDLOpenCL; }
};

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef().def_packed(
      "device_api.opencl", [](tvm::ffi::PackedArgs, Any* result) {
        // Never destroyed: TVM keeps the pointer.
        static auto* const api = new DeviceAPI;
        // DeviceAPIManager casts it back to this type.
        *result = static_cast<void*>(static_cast<tvm::runtime::DeviceAPI*>(api));
      });
}

}  // namespace
}  // namespace relax_tapml::opencl
