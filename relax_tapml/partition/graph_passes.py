"""The single passes of a side's own pipeline, and the module after each of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import GlobalVar, PrimType

from relax_tapml.errors import LoweringError
from relax_tapml.partition.device_side import changed_functions, reached
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.lower_for_target import applied, dispatched, flattened, rebound
from relax_tapml.partition.target_kernels import SAME, TargetKernels
from relax_tapml.partition.whole_module import build_whole
from relax_tapml.passes.operator_call import is_caller, leaf_types

_BEFORE = "_before"


class GraphPasses:
    """The passes of a pipeline that changes the Relax functions of a model.

    Parameters
    ----------
    lowered
        From ``lower``.
    target
        What the side is built for.
    pipeline
        The side's own pass; a ``Sequential`` is made of its passes, any other is one.
    kernels
        As for ``device_side``.
    """

    def __init__(
        self,
        lowered: tvm.IRModule,
        target: tvm.target.Target,
        pipeline: tvm.transform.Pass,
        kernels: TargetKernels = SAME,
    ) -> None:
        self.passes = tuple(flattened(pipeline))
        self.pipeline = pipeline
        self.target = target
        self.plain = rebound(dispatched(kernels.applied(lowered), target), lowered)
        self._modules: dict[int, tvm.IRModule] = {0: self.plain}

    @property
    def names(self) -> list[str]:
        """The names of the passes, in order."""
        return [str(one.info.name) for one in self.passes]

    def module(self, count: int) -> tvm.IRModule:
        """Return the module after the first ``count`` passes; 0 is before all of them.

        Raises
        ------
        LoweringError
            One of them raised.
        """
        if count not in self._modules:
            first = tvm.transform.Sequential(list(self.passes[:count]))
            whole = self.pipeline if count == len(self.passes) else first
            self._modules[count] = applied(whole, self.plain, self.target)
        return self._modules[count]

    def check(self, library: KernelLibrary) -> None:
        """Check that the changed module compiles.

        Parameters
        ----------
        library
            Where the changed module is built.

        Raises
        ------
        LoweringError
            It does not compile. The message names the first pass after which it does not.
        """
        try:
            build_whole(self.module(len(self.passes)), self.target, library)
        except LoweringError as error:
            one = next(
                (n for c, n in enumerate(self.names, 1) if not self._compiles(c, library)), ""
            )
            raise LoweringError(
                f"after pass {one!r} of the device's pipeline the module cannot be run: {error}"
            ) from error

    def _compiles(self, count: int, library: KernelLibrary) -> bool:
        try:
            build_whole(self.module(count), self.target, library)
        except LoweringError:
            return False
        return True

    def check_interfaces(self) -> None:
        """Check that a device can run every public function in the way that the model calls it.

        Raises
        ------
        LoweringError
            A public function is lost, has other parameters than before, or takes or returns an
            object that cannot leave a device. The message names function and pass.
        """
        for gvar, function in self.plain.functions.items():
            if not _is_public(function):
                continue
            name = gvar.name_hint
            leaves = [leaf for p in function.params for leaf in leaf_types(p.ty)]
            leaves += leaf_types(function.ret_ty)
            if not all(map(_crosses, leaves)):
                raise LoweringError(
                    f"pipeline {self.pipeline.info.name!r} changes Relax functions, so the whole "
                    f"module must be run on the device; but {name} takes or returns an object, "
                    "such as a cache, which does not leave a device. Give a pipeline that changes "
                    "kernels only"
                )
            if not _interface_change(function, name, self.module(len(self.passes))):
                continue
            for count, one in enumerate(self.names, 1):
                why = _interface_change(function, name, self.module(count))
                if why:
                    raise LoweringError(
                        f"pass {one!r} of the device's pipeline {why}; the model passes inputs and "
                        "weights as before, so public functions must keep their parameters"
                    )


def restored(
    module: tvm.IRModule, plain: tvm.IRModule, names: Collection[str]
) -> tuple[tvm.IRModule, list[str]]:
    """Put kernels back to what they were before any pass.

    Parameters
    ----------
    module, plain
        After some passes, and before all of them.
    names
        The kernels, or functions that stand for operators.

    Returns
    -------
    tuple
        The module, and those names whose functions no pass had changed.
    """
    result = module.clone()
    compared = rebound(module, plain)
    alike: list[str] = []
    own = {gvar.name_hint: gvar for gvar in module.functions}
    for name in names:
        if name not in own:
            continue
        functions = reached(plain, [name])
        if not changed_functions(tvm.IRModule(functions), _same_part(compared, functions)):
            alike.append(name)
            continue
        for gvar, function in functions.items():
            result.update_func(own.get(gvar.name_hint, gvar), function)
    return result, alike


def suspects(before: tvm.IRModule, after: tvm.IRModule) -> list[str]:
    """Return the functions of both modules that a pass changed, each to be restored by ``mixed``.

    A kernel that was changed together with a function that calls it is restored with that function.
    """
    callers, _, free = _sorted_out(before, after)
    return [*callers, *free]


def mixed(before: tvm.IRModule, after: tvm.IRModule, kept: Collection[str]) -> tvm.IRModule:
    """Return a module in which only some functions have the changes of a pass.

    Parameters
    ----------
    before, after
        The pass's input and its result, with the same GlobalVars for the same names.
    kept
        Those of ``suspects`` that are taken from ``after``.
    """
    callers, tied, free = _sorted_out(before, after)
    result = after.clone()
    for name in free:
        if name not in kept:
            result.update_func(after.get_global_var(name), before[name])
    there = {gvar.name_hint for gvar in after.functions}
    for caller in callers:
        if caller in kept:
            continue
        others: dict[str, GlobalVar] = {}
        parts = {g: f for g, f in reached(before, [caller]).items() if not is_caller(f)}
        for gvar in parts:
            # For the functions that are kept, this name is another kernel.
            if gvar.name_hint in tied:
                others[gvar.name_hint] = GlobalVar(f"{gvar.name_hint}{_BEFORE}")
                relax.expr._update_type(others[gvar.name_hint], gvar.ty)
        for gvar, function in parts.items():
            function = _calling(function, others)
            if gvar.name_hint in others:
                name = others[gvar.name_hint]
                result.update_func(name, function.with_attr("global_symbol", name.name_hint))
            elif gvar.name_hint not in there:
                result.update_func(gvar, function)
        result.update_func(after.get_global_var(caller), _calling(before[caller], others))
    return result


def _sorted_out(before: tvm.IRModule, after: tvm.IRModule) -> tuple[list[str], set[str], list[str]]:
    """Return changed callers of units, changed kernels that these call, and other changed ones."""
    both = {g.name_hint for g in before.functions} & {g.name_hint for g in after.functions}
    changed = [name for name in changed_functions(before, after) if name in both]
    callers = [name for name in changed if is_caller(before[name]) and is_caller(after[name])]
    called = {
        gvar.name_hint
        for side in (before, after)
        for caller in callers
        for gvar in reached(side, [caller])
    }
    others = [name for name in changed if name not in callers]
    return callers, called.intersection(others), [n for n in others if n not in called]


def _calling(function: tvm.ir.BaseFunc, others: Mapping[str, GlobalVar]) -> tvm.ir.BaseFunc:
    if not others:
        return function
    return tvm_ffi.structural_map(function, (GlobalVar, lambda g: others.get(g.name_hint, g)))


def _same_part(
    module: tvm.IRModule, functions: Mapping[GlobalVar, tvm.ir.BaseFunc]
) -> tvm.IRModule:
    names = {gvar.name_hint for gvar in functions}
    return tvm.IRModule({g: f for g, f in module.functions.items() if g.name_hint in names})


def _is_public(function: tvm.ir.BaseFunc) -> bool:
    return is_caller(function) and "global_symbol" in (function.attrs or {})


def _crosses(ty: tvm.ir.Type) -> bool:
    return isinstance(ty, relax.TensorType | relax.ShapeType | PrimType)


def _interface_change(function: relax.Function, name: str, module: tvm.IRModule) -> str:
    """Return why a public function cannot be called as before; empty if it can."""
    own = {gvar.name_hint: gvar for gvar in module.functions}
    if name not in own:
        return f"removed the public function {name}"
    other = module[own[name]]
    if not is_caller(other):
        return f"replaced the public function {name} by a unit or a kernel"
    if len(other.params) != len(function.params):
        return (
            f"changed {name} to take {len(other.params)} parameters, which were "
            f"{len(function.params)}"
        )
    for old, new in zip(function.params, other.params, strict=True):
        if str(old.ty) != str(new.ty):
            return f"changed parameter {old.name} of {name} from {old.ty} to {new.ty}"
    return ""
