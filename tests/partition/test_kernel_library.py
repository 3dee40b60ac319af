"""A kernel is built once for its content."""

from __future__ import annotations

from pathlib import Path

import broken_pipelines
import pytest
import tvm
from same_kernels import LLVM
from tiny_model import UNITS

from relax_tapml.errors import LoweringError
from relax_tapml.partition.kernel_library import ACCURATE, KernelLibrary, unit_kernels
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.platforms.registry import platform_of


def files(folder: Path) -> set[str]:
    """Names in the folder, hidden ones included."""
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.fixture
def edited(lowered) -> tvm.IRModule:
    """The model with one kernel changed."""
    return lower_for_target(
        lowered, LLVM, broken_pipelines.breaks("softmax", broken_pipelines.scale)
    )


def test_a_second_build_builds_nothing(tmp_path, units):
    """Not even for another object, or another process that shares the folder."""
    first = KernelLibrary(tmp_path / "kernels")
    built = first.build(units, LLVM)
    assert first.built_count == len(built.built) == len(UNITS)
    assert not built.failed
    assert files(tmp_path / "kernels") == {path.name for path in built.files()}
    second = KernelLibrary(tmp_path / "kernels")
    again = second.build(units, LLVM)
    assert (again.built, second.built_count) == ((), 0)
    assert again.paths == built.paths


def test_an_edited_kernel_is_the_only_one_built(tmp_path, units, edited):
    """And the old one stays, for a later run of the old kernel."""
    library = KernelLibrary(tmp_path)
    before = library.build(units, LLVM)
    after = library.build(edited, LLVM)
    assert after.built == ("softmax",)
    changed = {unit for unit in UNITS if before.paths[unit] != after.paths[unit]}
    assert changed == {"softmax"}
    assert library.build(units, LLVM).built == ()


def test_another_target_is_another_kernel(tmp_path, units):
    """Also where only an option differs."""
    library = KernelLibrary(tmp_path)
    one = library.build(units, LLVM)
    other = library.build(units, parse_target('{"kind": "llvm", "mcpu": "core2"}'))
    assert len(other.built) == len(UNITS)
    assert set(one.files()).isdisjoint(other.files())


def test_each_unit_has_its_files(tmp_path, units):
    """``files`` returns those of some units, each once."""
    built = KernelLibrary(tmp_path).build(units, LLVM)
    assert built.paths.keys() == set(UNITS)
    assert built.files(frozenset({"softmax"})) == built.paths["softmax"]
    assert built.files(frozenset()) == ()
    assert len(built.files()) == len(set(built.files())) == len(UNITS)
    assert all(path.name.startswith(f"{unit}-llvm-") for unit, (path,) in built.paths.items())


def test_kernels_of_a_dispatched_operator_belong_to_its_unit(units):
    """The PrimFuncs a unit function calls are no units themselves."""
    names = unit_kernels(units)
    assert names.keys() == set(UNITS)
    assert names["cumsum"] == ["cumsum"]
    on_gpu = unit_kernels(lower_for_target(units, tvm.target.Target("cuda")))
    assert on_gpu.keys() == set(UNITS)


def test_a_kernel_that_does_not_build_is_a_reason(tmp_path, lowered):
    """All others are built, and nothing is left of it."""
    side = lower_for_target(
        lowered, LLVM, broken_pipelines.breaks("softmax", broken_pipelines.unbuildable)
    )
    library = KernelLibrary(tmp_path)
    built = library.build(side, LLVM)
    assert built.failed.keys() == {"softmax"}
    assert built.failed["softmax"].startswith("softmax does not build for llvm: ")
    assert "stray" in built.failed["softmax"]
    assert len(built.failed["softmax"]) < 500
    assert built.paths.keys() == set(UNITS) - {"softmax"}
    assert files(tmp_path) == {path.name for path in built.files()}
    assert library.build(side, LLVM).failed == built.failed


def test_an_interrupted_build_leaves_no_kernel(tmp_path, units, monkeypatch):
    """What is under a kernel's name is whole, whenever the build is ended."""

    def interrupted(self, path, *args, **kwargs):
        Path(path).write_bytes(b"half a lib")
        raise KeyboardInterrupt

    library = KernelLibrary(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(tvm.runtime.Module, "export_library", interrupted)
        with pytest.raises(KeyboardInterrupt):
            library.build(units, LLVM)
    assert [name for name in files(tmp_path) if not name.startswith(".")] == []
    built = library.build(units, LLVM)
    assert len(built.built) == len(UNITS)
    for path in built.files():
        tvm.runtime.load_module(str(path))


def test_a_function_beside_the_vm_must_build(tmp_path, lowered):
    """Without it no program runs, so it is an error and not a reason."""
    side = lower_for_target(
        lowered, LLVM, broken_pipelines.breaks("softmax", broken_pipelines.unbuildable)
    )
    library = KernelLibrary(tmp_path)
    with pytest.raises(LoweringError, match=r"^softmax does not build for llvm: "):
        library.build_host_functions(tvm.IRModule({"softmax": side["softmax"]}), LLVM)


def test_functions_beside_the_vm_are_for_the_cpu(tmp_path, units):
    """Whatever the target; they are cached like kernels."""
    library = KernelLibrary(tmp_path)
    module = tvm.IRModule({"softmax": units["softmax"]})
    (path,) = library.build_host_functions(module, tvm.target.Target("cuda"))
    assert path.name.startswith("softmax-llvm-")
    assert library.build_host_functions(module, tvm.target.Target("cuda")) == (path,)
    assert library.built_count == 0


def test_a_kernel_that_shall_be_accurate_is_built_as_for_a_trusted_target(tmp_path, lowered):
    """Beside others of its target, and apart from the same kernel without the mark."""
    target = tvm.target.Target("opencl")
    library = KernelLibrary(tmp_path)
    plain = lowered["softmax"].without_attr("global_symbol")
    marked = plain.with_attr(ACCURATE, True)
    built = library.build(tvm.IRModule({"plain": plain, "marked": marked}), target)
    assert not built.failed
    assert set(built.built) == {"plain", "marked"}
    trusted = library.build(tvm.IRModule({"marked": marked}), platform_of(target).trusted(target))
    assert trusted.built == ()
