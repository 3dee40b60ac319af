/*!
 * \file callback_module.cc
 * \brief A runtime module whose functions are passed to its constructor.
 *
 * A host executable calls the device by name. Importing such a module into the executable gives
 * each executable its own callbacks. If they were registered globally, two hybrid modules in one
 * process would call each other's.
 */
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/ffi/string.h>

#include <utility>

namespace relax_tapml {
namespace ffi = tvm::ffi;

class CallbackModuleObj : public ffi::ModuleObj {
 public:
  explicit CallbackModuleObj(ffi::Map<ffi::String, ffi::Function> functions)
      : functions_(std::move(functions)) {}

  const char* kind() const final { return "relax_tapml.callbacks"; }
  int GetPropertyMask() const final { return ffi::Module::kRunnable; }

  ffi::Optional<ffi::Function> GetFunction(const ffi::String& name) final {
    auto it = functions_.find(name);
    if (it == functions_.end()) return std::nullopt;
    return (*it).second;
  }

 private:
  ffi::Map<ffi::String, ffi::Function> functions_;
};

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef().def("relax_tapml.callback_module",
                        [](ffi::Map<ffi::String, ffi::Function> functions) {
                          return ffi::Module(
                              ffi::make_object<CallbackModuleObj>(std::move(functions)));
                        });
}

}  // namespace relax_tapml
