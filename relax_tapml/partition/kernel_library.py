"""Kernels built once per unit and side, and kept by content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar

from relax_tapml.errors import LoweringError
from relax_tapml.files.names import file_stem
from relax_tapml.passes.operator_call import UNIT_ATTR, is_unit_function
from relax_tapml.targets.registry import platform_of


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
    """

    paths: dict[str, tuple[Path, ...]]
    built: tuple[str, ...]
    failed: dict[str, str]

    def files(self, units: frozenset[str] | None = None) -> tuple[Path, ...]:
        """Return the shared objects of some units, of all by default, each once."""
        chosen = (
            p for unit, ps in self.paths.items() if units is None or unit in units for p in ps
        )
        return tuple(dict.fromkeys(chosen))


class KernelLibrary:
    """A folder of shared objects, one for each (PrimFunc, target), named by content.

    A kernel's name has the SHA-256 of its IR, the target, the options that the environment gives
    its compiler, and TVM's version. So a changed kernel is a new file, an unchanged one is never
    built again, and several runs may share a folder.

    Parameters
    ----------
    folder
        Made when the first kernel is built.

    Attributes
    ----------
    built_count
        Kernels compiled by this object so far; functions for symbolic dimensions are not counted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.built_count = 0

    def build(self, side: tvm.IRModule, target: tvm.target.Target) -> KernelSet:
        """Schedule, compile and link what is missing, in parallel, as the target's platform does.

        Parameters
        ----------
        side
            From ``prepare_side``. PrimFuncs that the target needs scheduled and that are not yet
            get their default schedules.
        target
            What to build for.

        Raises
        ------
        DeviceUnavailable
            The platform's compiler is not installed.
        """
        kernels = {g: f for g, f in side.functions.items() if isinstance(f, tirx.PrimFunc)}
        platform = platform_of(target)
        platform.check()
        with platform.compiler(target) as compiler, ThreadPoolExecutor(os.cpu_count()) as pool:
            results = list(
                pool.map(lambda gvar: self._build(gvar, kernels[gvar], target, compiler), kernels)
            )
        by_kernel = dict(zip((g.name_hint for g in kernels), results, strict=True))
        paths: dict[str, tuple[Path, ...]] = {}
        failed: dict[str, str] = {}
        for unit, names in unit_kernels(side).items():
            reasons = [r.reason for name in names if (r := by_kernel[name]).reason]
            if reasons:
                failed[unit] = "; ".join(reasons)
            else:
                paths[unit] = tuple(p for name in names if (p := by_kernel[name].path))
        built = tuple(name for name, result in by_kernel.items() if result.is_new)
        self.built_count += len(built)
        return KernelSet(paths=paths, built=built, failed=failed)

    def build_host_functions(
        self, module: tvm.IRModule, target: tvm.target.Target
    ) -> tuple[Path, ...]:
        """Build PrimFuncs that run beside the VM, on the device's CPU, whatever the target.

        Raises
        ------
        LoweringError
            One does not build.
        """
        host = platform_of(target).host(target)
        with platform_of(host).compiler(host) as compiler:
            results = [self._build(gvar, f, host, compiler) for gvar, f in module.functions.items()]
        for result in results:
            if result.path is None:
                raise LoweringError(result.reason)
        return tuple(result.path for result in results if result.path)

    def _build(
        self,
        gvar: GlobalVar,
        function: tirx.PrimFunc,
        target: tvm.target.Target,
        compiler: Mapping[str, str],
    ) -> _Result:
        name = gvar.name_hint
        module = tvm.IRModule({gvar: function.with_attr("global_symbol", name)})
        options = json.dumps([json.loads(str(target)), compiler], sort_keys=True)
        content = "\n".join((tvm.ir.save_json(module), options, tvm.__version__))
        digest = hashlib.sha256(content.encode()).hexdigest()[:32]
        platform = platform_of(target)
        path = self.folder / f"{file_stem(name)}-{platform.name}-{digest}{platform.suffix}"
        if path.exists():
            return _Result(path=path)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
        try:
            platform.compile(module, target, partial)
            partial.replace(path)
        except Exception as error:
            partial.unlink(missing_ok=True)
            return _Result(reason=f"{name} does not build for {platform.name}: {_brief(error)}")
        return _Result(path=path, is_new=True)


@dataclass(frozen=True, kw_only=True)
class _Result:
    path: Path | None = None
    is_new: bool = False
    reason: str = ""


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


def _brief(error: Exception) -> str:
    """The part of a compiler error that says what is wrong, without its C++ backtrace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("File ", "at ", "[bt]"))]
    text = " ".join(told[-3:]) if told else type(error).__name__
    return text if len(text) <= 400 else text[:397] + "..."
