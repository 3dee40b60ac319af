"""Source of a kernel runs in the place of a unit's kernel, as its comments say."""

import pytest

from relax_tapml import verify
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import UsageError
from relax_tapml.targets.opencl.devices import list_devices

LAUNCH = "// relax-tapml: grid (s0 * 4 + 63) // 64\n// relax-tapml: block 64\n"
BEGIN = """__kernel void add_one(__global const float* x, __global float* y, int rows) {
  int i = get_global_id(0);
"""
RIGHT = f"{LAUNCH}{BEGIN}  if (i < rows * 4) y[i] = x[i] + 1.0f;\n}}\n"

needs_device = pytest.mark.skipif(not list_devices().devices, reason="no OpenCL device")


@pytest.fixture
def judge(suite, tmp_path):
    def judged(text, suffix=".cl", target="opencl", **options):
        path = tmp_path / f"kernel{suffix}"
        path.write_text(text)
        return verify(suite, "increment", path, target=target, held_out=1, **options)

    return judged


@needs_device
def test_a_right_kernel_passes_and_is_timed(judge):
    report = judge(RIGHT)
    assert report.verdict is Verdict.PASS
    assert report.speed.copy_share > 0


@needs_device
@pytest.mark.parametrize(
    ("change", "sign"),
    [
        (("+ 1.0f", "+ 1.001f"), "differs"),
        (("+ 63", "- 1"), "never written"),  # fewer groups than are needed
        (("i < rows * 4", "i < rows * 4 + 4"), "behind the end"),
    ],
)
def test_a_wrong_kernel_or_launch_is_refused(judge, change, sign):
    report = judge(RIGHT.replace(*change), is_timed=False)
    assert report.verdict is Verdict.MISMATCH
    assert sign in report.reason


@needs_device
def test_source_that_does_not_compile_is_a_build_error(judge):
    report = judge(RIGHT.replace("int i", "no type i"))
    assert report.verdict is Verdict.BUILD_ERROR
    assert "no" in report.reason


@pytest.mark.parametrize(
    ("text", "suffix", "target", "sign"),
    [
        (BEGIN + "}", ".cl", "opencl", "no grid"),
        (RIGHT.replace("s0", "rows"), ".cl", "opencl", "s0"),
        (RIGHT.replace("//", "/", 5).replace("/ relax", "// relax"), ".cl", "opencl", "grid"),
        (RIGHT.replace("block 64", "blocks 64"), ".cl", "opencl", "blocks"),
        (LAUNCH + "int nothing;", ".cl", "opencl", "no single kernel"),
        (RIGHT, ".cl", "llvm", "source for target opencl"),
        (LAUNCH + "__global__ void k(float* x) {}", ".cu", "opencl", "extern"),
        (RIGHT, ".wgsl", "webgpu", "ffi.Module.create.webgpu"),
    ],
)
def test_a_file_that_cannot_be_launched_is_refused(judge, text, suffix, target, sign):
    with pytest.raises(UsageError, match=sign):
        judge(text, suffix, target)
