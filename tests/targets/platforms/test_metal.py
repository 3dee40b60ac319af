"""Kernels for a Mac, linked on another machine by LLVM's linker for macOS."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import tvm
from tvm.script import ir as I  # noqa: N812
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.platforms.registry import platform_of

CPU = '{"kind": "llvm", "mtriple": "arm64-apple-macos", "mcpu": "apple-m1"}'
_LINKERS = ("ld64.lld", *(f"ld64.lld-{version}" for version in range(22, 13, -1)))


@I.ir_module
class Double:
    @T.prim_func(private=True, s_tir=True)
    def double(x: T.Buffer((64, 8), "float32"), y: T.Buffer((64, 8), "float32")):
        for i, j in T.grid(64, 8):
            with T.sblock("y"):
                v_i, v_j = T.axis.remap("SS", [i, j])
                y[v_i, v_j] = x[v_i, v_j] + T.exp(x[v_i, v_j])


@pytest.fixture
def compiler_of_a_mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clang with the options that TVM gives it on macOS, and without Apple's libraries."""
    linker = next(filter(None, map(shutil.which, _LINKERS)), None)
    if shutil.which("clang++") is None or linker is None:
        pytest.skip("there is no linker for macOS (apt-get install -y clang lld)")
    script = tmp_path / "c++"
    options = f"--target=arm64-apple-macos11 -fuse-ld={linker} -mlinker-version=609 -nostdlib"
    script.write_text(f'#!/bin/sh\nexec clang++ {options} -undefined dynamic_lookup "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))


@pytest.mark.usefixtures("compiler_of_a_mac")
@pytest.mark.parametrize(("text", "platform"), [("apple/m1-gpu", "metal"), (CPU, "llvm")])
def test_kernels_are_linked_for_a_mac_and_used_again(
    text: str, platform: str, tmp_path: Path
) -> None:
    """The file is what the linker has signed; what it lacks is in tvm-ffi and the C library."""
    target = parse_target(text)
    assert platform_of(target).name == platform
    built = KernelLibrary(tmp_path / "kernels").build(Double, target)
    assert built.failed == {}
    ((path,),) = built.paths.values()
    assert path.read_bytes().startswith(b"\xcf\xfa\xed\xfe")
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.name}.seal"]
    again = KernelLibrary(tmp_path / "kernels").build(Double, target)
    assert (again.built, again.paths) == ((), built.paths)
    if nm := shutil.which("llvm-nm"):
        undefined = subprocess.run([nm, "-u", path], capture_output=True, text=True, check=True)
        known = {"_TVMFFIErrorSetRaisedFromCStrParts", "_expf", "dyld_stub_binder"}
        assert set(undefined.stdout.split()) <= known


def test_metal_needs_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's libraries come with torch; Metal's with macOS."""
    seen = []
    monkeypatch.setattr(
        "relax_tapml.targets.platforms._metal.DeviceProcess", lambda **given: seen.append(given)
    )
    platform_of(tvm.target.Target("metal")).start()
    assert seen == [{}]
