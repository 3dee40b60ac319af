"""CUDA kernels are compiled in parallel where possible; their options are in their names."""

from __future__ import annotations

import os

import pytest
import tvm

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.targets.platforms.registry import platform_of
from relax_tapml.targets.toolchain.cuda_compiler import cuda_compiler, fast_math_option

MODE = "TVM_CUDA_COMPILE_MODE"


@pytest.fixture
def nvcc(tmp_path, monkeypatch):
    """A PATH with nothing on it but ``nvcc``."""
    compiler = tmp_path / "nvcc"
    compiler.write_text("")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in list(os.environ):
        if name.startswith("TVM_CUDA_"):
            monkeypatch.delenv(name)
    return compiler


def test_nvcc_is_used_where_it_is(nvcc):
    """For as long as kernels are built."""
    with cuda_compiler() as options:
        assert os.environ[MODE] == "nvcc"
        assert options == {MODE: "nvcc"}
    assert MODE not in os.environ


def test_without_nvcc_tvm_has_its_way(nvcc):
    """NVRTC, one kernel after another."""
    nvcc.unlink()
    with cuda_compiler() as options:
        assert MODE not in os.environ
        assert options == {}


def test_what_the_user_has_chosen_stays(nvcc, monkeypatch):
    """And everything that affects the compiled kernel is part of its name."""
    monkeypatch.setenv(MODE, "nvrtc")
    monkeypatch.setenv("TVM_CUDA_NVCC_NO_FAST_MATH", "1")
    with cuda_compiler() as options:
        assert options == {MODE: "nvrtc", "TVM_CUDA_NVCC_NO_FAST_MATH": "1"}
    assert os.environ[MODE] == "nvrtc"


def test_an_error_leaves_the_environment_as_it_was(nvcc):
    """Also when a build raises."""
    with pytest.raises(RuntimeError, match="no"), cuda_compiler():
        raise RuntimeError("no")
    assert MODE not in os.environ


def test_other_targets_have_no_such_options(nvcc, monkeypatch):
    """Settings for CUDA do not change the names of their kernels."""
    monkeypatch.setenv("TVM_CUDA_NVCC_NO_FAST_MATH", "1")
    llvm = tvm.target.Target("llvm")
    with platform_of(llvm).compiler(llvm) as options:
        assert options == {}
        assert MODE not in os.environ


def test_without_any_compiler_no_kernel_is_accused(nvcc, monkeypatch):
    """A missing compiler is reported before anything is built."""
    cuda = platform_of(tvm.target.Target("cuda"))
    cuda.check()
    nvcc.unlink()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DeviceUnavailable, match=r"a CUDA compiler is missing \(install the CUDA"):
        cuda.check()


def test_fast_math_is_what_the_compiler_gets(nvcc, monkeypatch):
    """nvcc has an option for it; NVRTC has none, and that of nvcc makes no difference."""
    cuda, target = platform_of(tvm.target.Target("cuda")), tvm.target.Target("cuda")
    assert fast_math_option() == "nvcc --use_fast_math"
    message = cuda.low_precision_math(target)
    assert message.names == {"tanh"}
    assert message.reason.startswith("nvcc --use_fast_math, TVM's default, makes tanhf")
    monkeypatch.setenv("TVM_CUDA_NVCC_NO_FAST_MATH", "1")
    assert fast_math_option() is None
    assert cuda.low_precision_math(target) is None
    monkeypatch.setenv(MODE, "nvrtc")
    assert fast_math_option() == "nvrtc --use_fast_math"
