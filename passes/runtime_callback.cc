/*!
 * \file handed_kernel.cc
 * \brief What OutlineHandedKernels calls: a Relax closure as a function, and its results in place.
 */
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

#include <utility>
#include <vector>

namespace relax_tapml {
namespace {

namespace ffi = tvm::ffi;

// The runtime keeps the function for as long as it likes, but must not call it once the VM is gone.
ffi::Function Hand(void* vm, ffi::ObjectRef closure) {
  static const ffi::Function invoke = ffi::Function::GetGlobalRequired("vm.builtin.invoke_closure");
  return ffi::Function::FromPacked(
      [vm, closure = std::move(closure)](ffi::PackedArgs args, ffi::Any* result) {
        std::vector<ffi::AnyView> packed{vm, closure};
        for (int i = 0; i < args.size(); ++i) packed.push_back(args[i]);
        invoke.CallPacked(ffi::PackedArgs(packed.data(), static_cast<int32_t>(packed.size())),
                          result);
      });
}

void Store(ffi::Tensor to, ffi::Tensor from) {
  if (to.data_ptr() == from.data_ptr() && to.byte_offset() == from.byte_offset()) return;
  static const ffi::Function copy =
      ffi::Function::GetGlobalRequired("runtime.TVMTensorCopyFromTo");
  copy(from, to);
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef().def("relax_tapml.hand", Hand).def("relax_tapml.store", Store);
}

}  // namespace relax_tapml
