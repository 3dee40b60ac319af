/*!
 * \file runtime_callback.cc
 * \brief What OutlineRuntimeCallbacks calls: a Relax closure as a function, and its results in
 * place.
 */
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

#include <utility>
#include <vector>

namespace relax_tapml {
namespace {

namespace ffi = tvm::ffi;

// What a kernel raises gets the kind of KernelFailed (kernel_failed.py), so that it is not taken for
// a refusal of the runtime that called it.
constexpr const char* kKernelFailed = "KernelFailed";

/*!
 * \brief While it lives, work of a device goes to the default stream.
 *
 * A KV cache copies pages on a stream of its own. Copies between tensors and the allocator of the
 * VM know the default stream alone, so what a callback does there is put between what that stream
 * was given before and what it is given afterwards.
 */
class OnDefaultStream {
 public:
  explicit OnDefaultStream(DLDevice device)
      : device_(device), stream_(TVMFFIEnvGetStream(device.device_type, device.device_id)) {
    if (stream_ == nullptr) return;
    Wait(stream_);
    Set(nullptr);
  }
  OnDefaultStream(const OnDefaultStream&) = delete;
  OnDefaultStream& operator=(const OnDefaultStream&) = delete;

  ~OnDefaultStream() {
    if (stream_ != nullptr) Set(stream_);
  }

  /*! \brief Wait for the work; raises its errors, which a destructor cannot. */
  void Finish() {
    if (stream_ != nullptr) Wait(nullptr);
  }

 private:
  void Wait(TVMFFIStreamHandle stream) {
    static const ffi::Function wait =
        ffi::Function::GetGlobalRequired("runtime.Device_StreamSync");
    wait(device_, reinterpret_cast<int64_t>(stream));
  }

  void Set(TVMFFIStreamHandle stream) {
    TVMFFIEnvSetStream(device_.device_type, device_.device_id, stream, nullptr);
  }

  const DLDevice device_;
  const TVMFFIStreamHandle stream_;
};

DLDevice DeviceOf(ffi::PackedArgs args) {
  for (int i = 0; i < args.size(); ++i) {
    if (auto tensor = args[i].as<ffi::Tensor>()) return tensor->device();
  }
  return {kDLCPU, 0};
}

// The runtime may keep the function after the VM is destroyed, but must not call it then.
ffi::Function MakeCallback(void* vm, ffi::ObjectRef closure) {
  static const ffi::Function invoke = ffi::Function::GetGlobalRequired("vm.builtin.invoke_closure");
  return ffi::Function::FromPacked(
      [vm, closure = std::move(closure)](ffi::PackedArgs args, ffi::Any* result) {
        std::vector<ffi::AnyView> packed{vm, closure};
        for (int i = 0; i < args.size(); ++i) packed.push_back(args[i]);
        try {
          OnDefaultStream stream(DeviceOf(args));
          invoke.CallPacked(ffi::PackedArgs(packed.data(), static_cast<int32_t>(packed.size())),
                            result);
          stream.Finish();
        } catch (const ffi::Error& error) {
          // These are no faults of a kernel.
          if (error.kind() == "KeyboardInterrupt" || error.kind() == "MemoryError") throw;
          throw ffi::Error(kKernelFailed, error.message(), error.backtrace());
        }
      });
}

void StoreResult(ffi::Tensor to, ffi::Tensor from) {
  if (to.data_ptr() == from.data_ptr() && to.byte_offset() == from.byte_offset()) return;
  static const ffi::Function copy =
      ffi::Function::GetGlobalRequired("runtime.TVMTensorCopyFromTo");
  copy(from, to);
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef()
      .def("relax_tapml.runtime_callback.make", MakeCallback)
      .def("relax_tapml.runtime_callback.store", StoreResult)
      // The names up to version 0.1: the bytecode of bundles on disk calls them.
      .def("relax_tapml.hand", MakeCallback)
      .def("relax_tapml.store", StoreResult);
}

}  // namespace relax_tapml
