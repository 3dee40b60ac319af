"""Target strings, the devices they run on, and the schedules they need."""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import dlight
from tvm_ffi import structural_walk
from tvm_ffi.structural import VisitInterrupt

from relax_tapml.errors import DeviceUnavailable, LoweringError, UsageError


def parse_target(text: str) -> Any:
    """Return the ``tvm.target.Target`` of a kind (``cuda``), a tag or a JSON object.

    Raises
    ------
    UsageError
        TVM does not know the target, or this build of TVM has no code generator for its kind.
    """
    try:
        target = tvm.target.Target(text)
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"target {text!r} is not known to TVM: {error}. Expected one of "
            f"{', '.join(_built_kinds())}, a tag such as nvidia/nvidia-a100, or JSON such as "
            '\'{"kind": "llvm", "mcpu": "native"}\''
        ) from error
    kind = target.kind.name
    if tvm.get_global_func(f"target.build.{kind}", allow_missing=True) is None:
        raise UsageError(
            f"target {text!r}: this build of TVM cannot generate code for {kind}; it can for "
            f"{', '.join(_built_kinds())}"
        )
    return target


def _built_kinds() -> list[str]:
    names = tvm_ffi.registry.list_global_func_names()
    known = set(tvm.target.Target.list_kinds())
    built = (name.removeprefix("target.build.") for name in names if "target.build." in name)
    return sorted(kind for kind in built if kind in known)


def device_of(target: Any, remote: Any = None) -> Any:
    """Return the first device a target's kernels run on, here or in an RPC session.

    Parameters
    ----------
    target
        A ``tvm.target.Target``.
    remote
        A ``tvm.rpc.RPCSession``, or None for this process.

    Raises
    ------
    DeviceUnavailable
        The runtime has no support for the device or the machine has none.
    """
    device = tvm.runtime.device_from_target(target)
    name = device.__device_type_name__()
    where = "here" if remote is None else "on the device's machine"
    if remote is not None:
        device = remote.device(device.dlpack_device_type(), device.index)
    try:
        is_there = device.exist
    except RuntimeError as error:
        raise DeviceUnavailable(
            f"target {target.kind.name}: the TVM runtime {where} does not support {name} devices"
        ) from error
    if not is_there:
        raise DeviceUnavailable(
            f"target {target.kind.name}: there is no {name} device {where}; use a session on a "
            "machine that has one (rpc:HOST:PORT or tracker:HOST:PORT:KEY)"
        )
    return device


def schedule(module: Any, target: Any) -> Any:
    """Give the PrimFuncs of a module the schedules a target cannot do without.

    A GPU kernel must bind its loops to threads, so those that do not get dlight's default GPU
    schedules, the ones of ``relax.get_default_pipeline``. PrimFuncs marked ``tirx.is_scheduled``
    or already bound to threads are left alone, and so is everything on a CPU.

    Returns
    -------
    IRModule
        The same module where nothing is to be scheduled, otherwise a new one.

    Raises
    ------
    LoweringError
        dlight raised; the message names the PrimFunc.
    """
    if "gpu" not in target.keys:
        return module
    rules = dlight.ApplyDefaultSchedule(
        dlight.gpu.Matmul(),
        dlight.gpu.GEMV(),
        dlight.gpu.Reduction(),
        dlight.gpu.GeneralReduction(),
        dlight.gpu.Fallback(),
    )
    scheduled = {}
    for name, function in module.functions_items():
        if not isinstance(function, tirx.PrimFunc) or _is_scheduled(function):
            continue
        try:
            with target:
                scheduled[name] = rules(tvm.IRModule({name: function}))[name]
        except Exception as error:
            raise LoweringError(
                f"schedule: dlight has no {target.kind.name} schedule for PrimFunc "
                f"{name.name_hint}: {error}. Schedule it in the device pipeline and mark it "
                "tirx.is_scheduled"
            ) from error
    if not scheduled:
        return module
    result = module.clone()
    for name, function in scheduled.items():
        result.update_func(name, function)
    return result


def _is_scheduled(function: Any) -> bool:
    if function.attrs and function.attrs.get("tirx.is_scheduled", False):
        return True

    def check(node: Any) -> Any:
        binds = (isinstance(node, tirx.For) and node.kind == tirx.ForKind.THREAD_BINDING) or (
            isinstance(node, tirx.AttrStmt) and node.attr_key == "thread_extent"
        )
        return VisitInterrupt() if binds else None

    return structural_walk(function.body, (tirx.Stmt, check), order="pre") is not None
