"""Give the OpenCL source of every MiniLM kernel to clang, which has a front end for it."""

from __future__ import annotations

import argparse
import subprocess
import sys

import tvm
from built_model import lowered
from minilm_build import sentences

from relax_tapml.frontend.load.load_model import load_model
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.toolchain.default_schedule import schedule

_FLAGS = ("-x", "cl", "-fsyntax-only", "-Xclang", "-finclude-default-header", "-Werror")


def main() -> int:
    """Print what clang refuses, and the count; 1 if it refuses any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clang", default="clang", help="the program (apt-get install -y clang)")
    parser.add_argument("--std", default="CL1.2", help="the version of OpenCL C")
    args = parser.parse_args()
    target = parse_target("opencl")
    module = lower_for_target(lowered(load_model("minilm", texts=sentences(1, 11))), target)
    kernels = [g for g, f in module.functions.items() if isinstance(f, tvm.tirx.PrimFunc)]
    refused = 0
    for gvar in kernels:
        kernel = module[gvar].with_attr("global_symbol", gvar.name_hint)
        built = tvm.tirx.build(schedule(tvm.IRModule({gvar: kernel}), target), target=target)
        (device,) = built.imports
        done = subprocess.run(
            [args.clang, f"-cl-std={args.std}", *_FLAGS, "-"],
            input=device.inspect_source(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            refused += 1
            print(f"{gvar.name_hint}: {done.stderr.strip()}")
    print(f"clang accepts {len(kernels) - refused} of {len(kernels)} kernels as {args.std}")
    return int(bool(refused))


if __name__ == "__main__":
    sys.exit(main())
