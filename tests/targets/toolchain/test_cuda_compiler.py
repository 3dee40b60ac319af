"""CUDA kernels are compiled in parallel where possible; their options are in their names."""

from __future__ import annotations

import os
import shutil
import sys
import types

import pytest
import tvm

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.targets.platforms.registry import platform_of
from relax_tapml.targets.toolchain.cuda_compiler import cuda_compiler, fast_math_option

MODE = "TVM_CUDA_COMPILE_MODE"
NO_FAST_MATH = "TVM_CUDA_NVCC_NO_FAST_MATH"


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


def test_a_trusted_kernel_is_compiled_without_fast_math(nvcc, monkeypatch):
    """Whatever the user has set, and only that kernel; its name differs from the other's."""
    target = tvm.target.Target({"kind": "cuda", "arch": "sm_90"}, host="llvm")
    cuda = platform_of(target)
    trusted = cuda.trusted(target)
    assert platform_of(trusted) is cuda
    assert cuda.trusted(trusted) is trusted
    assert (trusted.arch, trusted.host.kind.name) == ("sm_90", "llvm")
    with cuda.compiler(trusted) as options:
        assert options == {MODE: "nvcc", NO_FAST_MATH: "1"}
        assert os.environ[NO_FAST_MATH] == "1"
    assert NO_FAST_MATH not in os.environ
    assert cuda.low_precision_math(trusted) is None
    with cuda.compiler(target) as options:
        assert options == {MODE: "nvcc"}
    assert cuda.low_precision_math(target) is not None
    assert "trusted" not in str(target)
    assert (cuda.options_text(target), cuda.options_text(trusted)) == (
        *("", "compiled without fast math"),
    )


@pytest.mark.parametrize("is_accurate", [True, False])
def test_nvrtc_gets_the_option_for_others_only(nvcc, monkeypatch, is_accurate):
    """TVM always passes it to NVRTC, so it is taken out on the way."""
    nvcc.unlink()
    given = []

    class Nvrtc(types.ModuleType):
        """NVRTC, as far as a compilation needs it."""

        def nvrtcCompileProgram(self, program, count, options):
            given.append((count, list(options)))

    module = Nvrtc("cuda.bindings.nvrtc")
    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", module)
    with cuda_compiler(is_accurate=is_accurate):
        module.nvrtcCompileProgram("p", 2, [b"-default-device", b"--use_fast_math"])
    module.nvrtcCompileProgram("p", 1, [b"--use_fast_math"])
    kept = [b"-default-device"] if is_accurate else [b"-default-device", b"--use_fast_math"]
    assert given == [(len(kept), kept), (1, [b"--use_fast_math"])]


def test_real_kernels_of_both_kinds_differ():
    """A power is computed by another function, where there is a compiler to see it."""
    if shutil.which("nvcc") is None:
        pytest.skip("needs nvcc")
    target = tvm.target.Target({"kind": "cuda", "arch": "sm_90"}, host="llvm")
    cuda = platform_of(target)
    sizes = []
    for one in (target, cuda.trusted(target)):
        with cuda.compiler(one), one:
            code = (
                'extern "C" __global__ void f(float* x) '
                "{ x[threadIdx.x] = powf(x[threadIdx.x], 3.5f); }"
            )
            sizes.append(len(tvm.get_global_func("tvm_callback_cuda_compile")(code)))
    assert sizes[1] > 1.2 * sizes[0]
