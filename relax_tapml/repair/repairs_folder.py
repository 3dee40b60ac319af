"""Repairs on disk: a pass that any build can apply, and each repair as text."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from relax_tapml._compat import portable_script
from relax_tapml.files.names import file_stem
from relax_tapml.files.replace import delete, new_folder
from relax_tapml.partition.kernel_library import ACCURATE
from relax_tapml.repair.tried import UnitRepair
from relax_tapml.suite.reproducer import Reproducer, write_reproducer

PIPELINE = "__init__.py"
_TEMPLATE = Path(__file__).with_name("pipeline_template.txt")


def repairs_pass(kernels: Mapping[str, tirx.PrimFunc], units: tvm.IRModule) -> tvm.transform.Pass:
    """Return the pass that ``write_repairs`` writes, made here.

    Parameters
    ----------
    kernels
        The right ones, by name.
    units
        The module with the wrong ones.
    """
    pairs = {name: (_plain(units[name]), _plain(kernel)) for name, kernel in kernels.items()}

    @tvm.transform.module_pass(opt_level=0, name="repairs")  # type: ignore[untyped-decorator]
    def repairs(module: tvm.IRModule, _context: Any) -> tvm.IRModule:
        result = module.clone()
        for gvar, function in module.functions_items():
            pair = pairs.get(gvar.name_hint)
            if pair is None or not isinstance(function, tirx.PrimFunc):
                continue
            wrong, right = pair
            if not tvm_ffi.structural_equal(_plain(function), wrong, map_free_vars=True):
                continue
            symbol = (function.attrs or {}).get("global_symbol")
            placed = right if symbol is None else right.with_attr("global_symbol", symbol)
            result.update_func(gvar, placed)
        return result

    return repairs


def write_repairs(
    folder: Path,
    repairs: Sequence[UnitRepair],
    units: tvm.IRModule,
    scripts: Sequence[Reproducer] = (),
) -> None:
    """Write the repairs of units, replacing earlier ones; no folder where there are none.

    ``__init__.py`` has the pass ``pipeline``, which needs only TVM. It puts each repaired kernel in
    the place of the one of its name, if that is still the kernel that was wrong. For each there are
    ``KERNEL.json`` (both kernels), ``KERNEL.py`` (the right one as TVMScript) and ``KERNEL.diff``;
    in ``reproduce`` the scripts.

    Parameters
    ----------
    folder
        A package; its name must be one of Python to be named in ``--device-pipeline``.
    repairs
        Of which those with kernels are written.
    units
        The module that they were found for.
    scripts
        Of ``reproducers``.
    """
    kernels = {name: (repair, one) for repair in repairs for name, one in repair.kernels.items()}
    if not kernels:
        delete(folder)
        return
    with new_folder(folder) as scratch:
        files: dict[str, str] = {}
        for name, (repair, kernel) in kernels.items():
            stem = file_stem(name)
            files[name] = f"{stem}.json"
            pair = tvm.IRModule({"wrong": _plain(units[name]), "right": _plain(kernel)})
            (scratch / files[name]).write_text(tvm.ir.save_json(pair), encoding="utf-8")
            before, after = _script(units[name], name), _script(kernel, name)
            about = f"# unit {repair.unit}: {repair.text}\n"
            if kernel.attrs.get(ACCURATE, False):
                about += (
                    "# It is to be compiled without fast math: relax_tapml does so; elsewhere set\n"
                    "# TVM_CUDA_NVCC_NO_FAST_MATH=1 and TVM_CUDA_COMPILE_MODE=nvcc.\n"
                )
            (scratch / f"{stem}.py").write_text(about + after, encoding="utf-8")
            lines = difflib.unified_diff(
                before.splitlines(keepends=True),
                after.splitlines(keepends=True),
                f"wrong/{stem}.py",
                f"right/{stem}.py",
            )
            (scratch / f"{stem}.diff").write_text("".join(lines), encoding="utf-8")
        for made in scripts:
            write_reproducer(made, scratch / "reproduce")
        text = _TEMPLATE.read_text(encoding="utf-8")
        listed = "".join(f"    {name!r}: {file!r},\n" for name, file in files.items())
        digest = hashlib.sha256("".join(sorted(files)).encode()).hexdigest()[:8]
        text = text.replace("<<KERNELS>>", listed).replace("<<DIGEST>>", digest)
        (scratch / PIPELINE).write_text(text, encoding="utf-8")


def _plain(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    return kernel.without_attr("global_symbol")


def _script(kernel: tirx.PrimFunc, name: str) -> str:
    return portable_script(tvm.IRModule({name: kernel.with_attr("global_symbol", name)})) + "\n"
