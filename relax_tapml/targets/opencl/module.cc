// The module that TVM loads kernels from.
//
// Kernels are always saved and loaded, so this is all: there is no ffi.Module.create.opencl, and
// TVM's code generator makes its own module of source, which cannot run but saves the same bytes.

#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

#include <map>
#include <memory>
#include <string>

#include "kernel.h"
#include "payload.h"

namespace relax_tapml::opencl {
namespace {

using tvm::ffi::Any;
using tvm::ffi::Bytes;
using tvm::ffi::Function;
using tvm::ffi::Optional;
using tvm::ffi::PackedArgs;
using tvm::ffi::String;

// Immutable; functions that were taken from it keep their kernels alive.
class KernelModule final : public tvm::ffi::ModuleObj {
 public:
  explicit KernelModule(std::string bytes) : bytes_(std::move(bytes)) {
    Payload payload = ReadPayload(bytes_);
    if (payload.format != "cl") {
      TVM_FFI_THROW(ValueError) << "OpenCL: kernels have format " << payload.format
                                << ", and only source (cl) can be run";
    }
    source_ = payload.code;
    const auto program = std::make_shared<Program>(payload.code);
    for (Signature& signature : payload.kernels) {
      const std::string name = signature.name;
      kernels_[name] = std::make_shared<Kernel>(program, std::move(signature));
    }
  }

  const char* kind() const final { return "opencl"; }

  int GetPropertyMask() const final {
    return tvm::ffi::Module::kBinarySerializable | tvm::ffi::Module::kRunnable;
  }

  Optional<Function> GetFunction(const String& name) final {
    const auto found = kernels_.find(name);
    if (found == kernels_.end()) return std::nullopt;
    return Function::FromPacked(
        [kernel = found->second](PackedArgs args, Any*) { (*kernel)(args); });
  }

  Bytes SaveToBytes() const final { return Bytes(bytes_); }

  String InspectSource(const String&) const final { return source_; }

 private:
  const std::string bytes_;
  std::string source_;
  std::map<std::string, std::shared_ptr<Kernel>> kernels_;
};

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef().def(
      "ffi.Module.load_from_bytes.opencl", [](const Bytes& bytes) {
        return tvm::ffi::Module(tvm::ffi::make_object<KernelModule>(std::string(bytes)));
      });
}

}  // namespace
}  // namespace relax_tapml::opencl
