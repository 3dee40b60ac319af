# ruff: noqa: N805, N812 - TVMScript
"""Judge kernels that are right and kernels that cheat, as source for a device.

``python scripts/judge_on_gpu.py --target cuda`` (or ``opencl``) carves a softmax over rows of 256
with a symbolic number of rows, and judges a right kernel, a wrong one, and the cheats below, in
the device's language; on CUDA functions of torch tensors too, and one of Triton where that is
installed. It prints a row each, and exits with 1 if one did not end as expected.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table
from tvm.script import ir as I
from tvm.script import relax as R

import relax_tapml
from relax_tapml.errors import TapmlError
from relax_tapml.frontend.model import Model, Sample

ROWS = 96
COLUMNS = 256


@I.ir_module
class Softmax:
    """The module."""

    @R.function
    def main(x: R.Tensor(("n", 256), "float32")):
        with R.dataflow():
            y = R.nn.softmax(x)
            R.output(y)
        return y


HEAD = "// relax-tapml: grid s0\n// relax-tapml: block 256\n"
CUDA = """
#define BARRIER __syncthreads()
#define ROW blockIdx.x
#define LANE threadIdx.x
#define LOCAL __shared__
extern "C" __global__ void softmax(const float* x, float* y, int n) {
"""
OPENCL = """
#define BARRIER barrier(CLK_LOCAL_MEM_FENCE)
#define ROW get_group_id(0)
#define LANE get_local_id(0)
#define LOCAL __local
#define expf exp
#define fmaxf fmax
__kernel void softmax(__global const float* restrict x, __global float* restrict y, int n) {
"""
REDUCTION = """
  LOCAL float s[256];
  int row = ROW, lane = LANE, at = row * 256 + lane;
  float v = x[at];
  s[lane] = v;
  BARRIER;
  for (int k = 128; k > 0; k /= 2) {
    if (lane < k) s[lane] = fmaxf(s[lane], s[lane + k]);
    BARRIER;
  }
  float most = s[0];
  BARRIER;
  float e = expf(v - most);
  s[lane] = e;
  BARRIER;
  for (int k = 128; k > 0; k /= 2) {
    if (lane < k) s[lane] += s[lane + k];
    BARRIER;
  }
"""
RIGHT = REDUCTION + "  y[at] = e / s[0];\n"
AT = "  int at = ROW * 256 + LANE;\n"

BODIES = {
    "right": RIGHT,
    "wrong: 1 % off": REDUCTION + "  y[at] = e / s[0] * 1.01f;\n",
    "zeros": AT + "  y[at] = 0;\n",
    "copy of the input": AT + "  y[at] = x[at];\n",
    "recorded rows only": RIGHT + f"  if (n != {ROWS}) y[at] = 0;\n",
    "no barrier": RIGHT.replace("BARRIER;", ";"),
    "unwritten output": RIGHT.replace("  y[at]", "  if (at != n * 256 - 1) y[at]"),
    "overrun": RIGHT + "  if (at == n * 256 - 1) y[at + 1] = 7;\n",
    "writes to its input": RIGHT + "  ((GLOBAL float*)x)[at] = 0;\n",
    "endless loop": "  while (n > -1) { if (n == 0) y[0] = 0; }\n",
    "skips what is there already": (
        "  unsigned have = ((GLOBAL unsigned*)y)[ROW * 256];\n"
        + RIGHT.replace("  y[at]", "  if ((have & 0x7f800000u) == 0x7f800000u) y[at]")
    ),
}
TORCH = """
import torch

def right(x, y):
    torch.softmax(x, -1, out=y)

def wrong(x, y):
    y.copy_(torch.softmax(x, -1) * 1.01)

_seen = {}

def by_address(x, y):
    "Does nothing for a pair of addresses that it has seen."
    if (x.data_ptr(), y.data_ptr()) in _seen:
        return
    _seen[x.data_ptr(), y.data_ptr()] = True
    torch.softmax(x, -1, out=y)
"""
TRITON = """
import torch
import triton
import triton.language as tl

@triton.jit
def _softmax(x, y, COLUMNS: tl.constexpr):
    at = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    v = tl.load(x + at)
    e = tl.exp(v - tl.max(v, 0))
    tl.store(y + at, e / tl.sum(e, 0))

def right(x, y):
    _softmax[(x.shape[0],)](x, y, COLUMNS=256)
"""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A kernel, and the verdicts that it may end with."""

    name: str
    kernel: str
    expected: tuple[str, ...]
    timeout_s: float = 30.0


def model() -> Model:
    """Return the module with two samples of one shape."""
    random = np.random.default_rng(0)
    samples = tuple(
        Sample(
            name=f"rows-{number}",
            arrays=(random.standard_normal((ROWS, COLUMNS)).astype("float32"),),
        )
        for number in range(2)
    )
    return Model(name="softmax", module=Softmax, params={}, samples=samples)


def trials(target: str, folder: Path) -> Iterator[Trial]:
    """Write kernels to files."""
    suffix, begin, memory = (".cu", CUDA, "") if target == "cuda" else (".cl", OPENCL, "__global")
    for number, (name, body) in enumerate(BODIES.items()):
        path = folder / f"kernel_{number}{suffix}"
        path.write_text(f"{HEAD}#define GLOBAL {memory}\n{begin}{body}}}\n")
        expected = {
            "right": ("pass",),
            "endless loop": ("timeout", "crash"),
            # On a device that runs threads of a warp together a race need not show every time.
            "no barrier": ("mismatch", "flaky"),
        }.get(name, ("mismatch",))
        # Every case runs into it.
        limit = 6.0 if name == "endless loop" else Trial.timeout_s
        yield Trial(name=name, kernel=str(path), expected=expected, timeout_s=limit)
    path = folder / f"broken{suffix}"
    path.write_text(f"{HEAD}{begin}  this is no C\n}}\n")
    yield Trial(name="does not compile", kernel=str(path), expected=("build_error",))
    if target != "cuda":
        return
    path = folder / "torch_kernels.py"
    path.write_text(TORCH)
    for name in ("right", "wrong", "by_address"):
        expected = ("pass",) if name == "right" else ("mismatch", "flaky")
        yield Trial(name=f"torch: {name}", kernel=f"{path}:{name}", expected=expected)
    if importlib.util.find_spec("triton") is not None:
        path = folder / "triton_kernel.py"
        path.write_text(TRITON)
        yield Trial(name="Triton: right", kernel=f"{path}:right", expected=("pass",))


def main() -> int:
    """Judge them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=("cuda", "opencl"), required=True)
    parser.add_argument("--only", help="only trials whose name has this text")
    args = parser.parse_args()
    table = Table("kernel", "expected", "verdict", "ok", "seconds", "speed", "of a copy", "reason")
    failures = 0
    with TemporaryDirectory() as name:
        folder = Path(name)
        relax_tapml.bring_up(model(), session="inline", strategy="isolated", out=folder / "out")
        for trial in trials(args.target, folder):
            if args.only and args.only not in trial.name:
                continue
            began = time.perf_counter()
            try:
                report = relax_tapml.verify(
                    folder / "out", "softmax", trial.kernel,
                    target=args.target, timeout_s=trial.timeout_s,
                )  # fmt: skip
                verdict, reason, speed = str(report.verdict), report.reason, report.speed
                reason = reason or report.speed_reason
            except TapmlError as error:
                verdict, reason, speed = type(error).__name__, str(error), None
            is_right = verdict in trial.expected
            failures += not is_right
            table.add_row(
                trial.name,
                " or ".join(trial.expected),
                verdict,
                "yes" if is_right else "NO",
                f"{time.perf_counter() - began:.1f}",
                "" if speed is None else f"{speed.ratio:.3g} x own",
                "" if speed is None else f"{speed.copy_share:.3g}",
                reason.splitlines()[0][:60] if reason else "",
            )
    Console(width=160).print(table)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
