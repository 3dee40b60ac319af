"""Kernels built once per unit and side, and kept by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar

from relax_tapml.cpu_schedule.schedule_for_cpu import RULES_VERSION
from relax_tapml.errors import LoweringError
from relax_tapml.files.machine import machine_errors
from relax_tapml.partition._kernel_compile import KernelJob, compile_kernels
from relax_tapml.partition._kernel_files import KernelFiles, KernelName
from relax_tapml.passes.operator_call import UNIT_ATTR, is_unit_function
from relax_tapml.targets.platforms.registry import platform_of

ACCURATE = "relax_tapml.accurate"
"""An attribute of a PrimFunc that is compiled as for a trusted target: without options that cost
accuracy, and with the guards that TVM drops."""


@dataclass(frozen=True, kw_only=True)
class KernelSet:
    """The kernels of one side.

    Parameters
    ----------
    paths
        Unit to its shared objects: one for a PrimFunc, any number for a dispatched operator.
    built
        PrimFuncs that had to be compiled; the others were there already.
    failed
        Unit to the reason why it has no kernel. Such a unit is not in ``paths``.
    names
        What identifies the content of each kernel, whether it builds or not.
    """

    paths: dict[str, tuple[Path, ...]]
    built: tuple[str, ...]
    failed: dict[str, str]
    names: tuple[str, ...] = ()

    def files(self, units: frozenset[str] | None = None) -> tuple[Path, ...]:
        """Return the shared objects of some units, of all units by default, each once."""
        chosen = (
            p for unit, ps in self.paths.items() if units is None or unit in units for p in ps
        )
        return tuple(dict.fromkeys(chosen))


class KernelLibrary:
    """A folder of shared objects, one for each (PrimFunc, target), named by content.

    A kernel's name has the SHA-256 of its IR, the target, the options that the environment gives
    its compiler, and the versions of TVM and of the rules by which kernels for CPUs are scheduled.
    So a changed kernel is a new file, an unchanged one is never built again, and several runs may
    share a folder. A file that is damaged, or that another user has built, is not used; see
    ``KernelFiles``.

    Parameters
    ----------
    folder
        Created when the first kernel is built.

    Attributes
    ----------
    built_count
        Kernels compiled by this object so far; functions for symbolic dimensions are not counted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = KernelFiles(folder)
        self.built_count = 0

    def build(
        self,
        side: tvm.IRModule,
        target: tvm.target.Target,
        on_built: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> KernelSet:
        """Schedule, compile and link missing kernels, in parallel, as the target's platform does.

        Parameters
        ----------
        side
            From ``lower_for_target``. PrimFuncs that the target needs scheduled, and that are not
            scheduled yet, get their default schedules.
        target
            The target to build for.
        on_built
            Called after each kernel that was missing, with how many of how many are done; from any
            thread.

        Raises
        ------
        DeviceUnavailable
            The platform's compiler is not installed.
        MachineError
            The machine lacked something else: room, memory, descriptors, rights.
        """
        functions = {g: f for g, f in side.functions.items() if isinstance(f, tirx.PrimFunc)}
        platform_of(target).check()
        jobs, kernels = self._kernels(functions, target, on_built)
        paths: dict[str, tuple[Path, ...]] = {}
        failed: dict[str, str] = {}
        for unit, names in unit_kernels(side).items():
            reasons = [reason for name in names if (reason := kernels[name].reason)]
            if reasons:
                failed[unit] = "; ".join(reasons)
            else:
                paths[unit] = tuple(path for name in names if (path := kernels[name].path))
        built = tuple(name for name, kernel in kernels.items() if kernel.is_new)
        self.built_count += len(built)
        made_of = tuple(str(job.name) for job in jobs)
        return KernelSet(paths=paths, built=built, failed=failed, names=made_of)

    def build_host_functions(
        self, module: tvm.IRModule, target: tvm.target.Target
    ) -> tuple[Path, ...]:
        """Build PrimFuncs that run beside the VM, on the device's CPU, for any target.

        Raises
        ------
        LoweringError
            One does not build.
        MachineError
            As for ``build``.
        """
        host = platform_of(target).host(target)
        kernels = self._kernels(module.functions, host)[1].values()
        for kernel in kernels:
            if kernel.path is None:
                raise LoweringError(kernel.reason)
        return tuple(kernel.path for kernel in kernels if kernel.path)

    def _kernels(
        self,
        functions: Mapping[GlobalVar, tirx.PrimFunc],
        target: tvm.target.Target,
        on_built: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> tuple[list[KernelJob], dict[str, _Kernel]]:
        """Return the jobs of kernels, and the kernels by name, built where they are missing."""
        jobs: list[KernelJob] = []
        kernels: dict[str, _Kernel] = {}
        trusted = platform_of(target).trusted(target)
        for is_accurate, own in ((False, target), (True, trusted)):
            chosen = {g: f for g, f in functions.items() if _is_accurate(f) is is_accurate}
            if chosen:
                done, found = self._kernels_of(chosen, own, on_built)
                jobs += done
                kernels |= found
        return jobs, kernels

    def _kernels_of(
        self,
        functions: Mapping[GlobalVar, tirx.PrimFunc],
        target: tvm.target.Target,
        on_built: Callable[[int, int], None],
    ) -> tuple[list[KernelJob], dict[str, _Kernel]]:
        platform = platform_of(target)
        with (
            machine_errors(f"building kernels for {platform.name}", self.folder),
            platform.compiler(target) as compiler,
        ):
            jobs = [_job(gvar, function, target, compiler) for gvar, function in functions.items()]
            there = self._files.find(job.name for job in jobs)
            # Kernels of different names may have the same file, so each file is made once.
            missing = {job.name: job for job in jobs if job.name not in there}
            compiled = compile_kernels(list(missing.values()), platform, self._files, on_built)
        return jobs, {
            job.name.kernel: _Kernel(path=there[job.name])
            if job.name in there
            else _Kernel(
                path=compiled[job.name].path,
                reason=compiled[job.name].reason,
                is_new=compiled[job.name].path is not None,
            )
            for job in jobs
        }


def _is_accurate(function: tirx.PrimFunc) -> bool:
    return bool(function.attrs and function.attrs.get(ACCURATE, False))


@dataclass(frozen=True, kw_only=True)
class _Kernel:
    path: Path | None = None
    is_new: bool = False
    reason: str = ""


def _job(
    gvar: GlobalVar, function: tirx.PrimFunc, target: tvm.target.Target, compiler: Mapping[str, str]
) -> KernelJob:
    name = gvar.name_hint
    module = tvm.IRModule({gvar: function.with_attr("global_symbol", name)})
    options = json.dumps([json.loads(str(target)), compiler], sort_keys=True)
    rules = str(RULES_VERSION)
    content = "\n".join((tvm.ir.save_json(module), options, tvm.__version__, rules))
    platform = platform_of(target)
    return KernelJob(
        name=KernelName(
            kernel=name,
            platform=platform.name,
            digest=hashlib.sha256(content.encode()).hexdigest()[:32],
            suffix=platform.suffix,
        ),
        module=module,
        target=target,
    )


def unit_kernels(side: tvm.IRModule) -> dict[str, list[str]]:
    """Map each unit of a prepared module to the PrimFuncs that implement it."""
    units: dict[str, list[str]] = {}
    inner: set[str] = set()
    for function in side.functions.values():
        if is_unit_function(function):
            names = sorted(_reached(function, side))
            units[str(function.attrs[UNIT_ATTR])] = names
            inner.update(names)
    for gvar, function in side.functions.items():
        if isinstance(function, tirx.PrimFunc) and gvar.name_hint not in inner:
            units[gvar.name_hint] = [gvar.name_hint]
    return units


def _reached(function: relax.Function, side: tvm.IRModule) -> set[str]:
    names: set[str] = set()
    pending = [function]
    while pending:
        for gvar in relax.analysis.all_global_vars(pending.pop()):
            callee = side[gvar]
            if isinstance(callee, tirx.PrimFunc):
                names.add(gvar.name_hint)
            else:
                pending.append(callee)
    return names
