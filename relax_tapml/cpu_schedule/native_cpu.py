"""The CPU of this machine."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import tvm
from tvm.target import codegen

_TRIPLE = str(codegen.llvm_get_system_triple())
_CPUINFO = Path("/proc/cpuinfo")
# Instruction sets of x86 that LLVM and Linux call the same.
_SAME = [
    "ssse3",
    "sse4a",
    "popcnt",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "bmi2",
    "movbe",
    "adx",
    "aes",
    "gfni",
    "vaes",
    "vpclmulqdq",
    "avx512f",
    "avx512bw",
    "avx512cd",
    "avx512dq",
    "avx512vl",
    "avx512ifma",
    "avx512vbmi",
]
# Instruction sets of x86 that LLVM chooses by itself: its name, and that of Linux if they differ.
_X86 = {
    **dict.fromkeys(_SAME, ""),
    "sse3": "pni",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    "bmi": "bmi1",
    "lzcnt": "abm",
    "pclmul": "pclmulqdq",
    "sha": "sha_ni",
    "avxvnni": "avx_vnni",
    "avxifma": "avx_ifma",
    "avx512bf16": "avx512_bf16",
    "avx512fp16": "avx512_fp16",
    "avx512bitalg": "avx512_bitalg",
    "avx512vbmi2": "avx512_vbmi2",
    "avx512vnni": "avx512_vnni",
    "avx512vp2intersect": "avx512_vp2intersect",
    "avx512vpopcntdq": "avx512_vpopcntdq",
}


def native_cpu_target() -> Any:
    """Return the ``tvm.target.Target`` of this machine's CPU, with all its instructions."""
    return with_native_cpu(tvm.target.Target("llvm"))


def with_native_cpu(target: Any) -> Any:
    """Return a target whose code is for the CPU of this machine.

    LLVM takes a CPU's instructions from its name. A virtual machine may hide some of them, so
    those that the kernel does not list are excluded.

    Parameters
    ----------
    target
        A ``tvm.target.Target``. One of another kind than ``llvm``, or with a CPU, features or a
        triple of its own, is returned as it is; so is every target where LLVM does not know the
        CPU.
    """
    if target.kind.name != "llvm" or target.attrs.get("mcpu") or target.attrs.get("mattr"):
        return target
    # TVM adds the triple that LLVM was built with.
    if str(target.attrs.get("mtriple", _TRIPLE)) != _TRIPLE:
        return target
    name = str(codegen.llvm_get_system_cpu())
    if not name or name == "generic":
        return target
    document = {**json.loads(str(target)), "mcpu": name}
    hidden = sorted(_instructions(tvm.target.Target(document)) - (_listed() or set(_X86)))
    if hidden:
        document["mattr"] = [f"-{feature}" for feature in hidden]
    return tvm.target.Target(document)


def without_native_cpu(target: Any) -> Any:
    """Return the target that ``with_native_cpu`` made this one of; the same if it did not."""
    if target.kind.name != "llvm" or not target.attrs.get("mcpu"):
        return target
    named = ("mcpu", "mattr")
    rest = {key: value for key, value in json.loads(str(target)).items() if key not in named}
    plain = tvm.target.Target(rest)
    return plain if str(with_native_cpu(plain)) == str(target) else target


def instruction_sets(target: Any) -> tuple[str, ...]:
    """Return the instruction sets that code for a target may use, by LLVM's names.

    Those that every x86-64 has are not listed; other architectures have none.
    """
    return tuple(sorted(_instructions(target))) if target.kind.name == "llvm" else ()


def missing_instruction_sets(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return which of some instruction sets the CPU of this machine lacks.

    Code that uses them would end its process here. Where the system does not list what its CPU
    has, none is missing.
    """
    listed = _listed()
    return () if listed is None else tuple(name for name in names if name not in listed)


def _instructions(target: Any) -> set[str]:
    return {str(name) for name in codegen.llvm_get_cpu_features(target)} & set(_X86)


@functools.cache
def _listed() -> set[str] | None:
    """Return the instruction sets that Linux lists; None where it does not."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return None
    flags = next((line.split(":")[1].split() for line in lines if line.startswith("flags")), None)
    if flags is None:
        return None
    return {ours for ours, theirs in _X86.items() if (theirs or ours) in flags}
