"""Peak memory of a command, its children included, stage by stage.

``python scripts/memory_of_run.py -- python -m relax_tapml.build MODEL --out DIR``

Printed apart are pages of its own, which the system cannot drop, and pages of mapped files, which
it can (``process_memory``). A stage ends with the line that the command prints about it on stderr;
its name is the first word of that line.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from process_memory import Memory, MemorySampler

_EVERY_S = 0.05


def main() -> int:
    """Run the command; exit as it does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights-mb", type=float, help="print peaks as multiples of this, too")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    stages: list[tuple[str, Memory, Memory]] = []
    process = subprocess.Popen(options.command, stderr=subprocess.PIPE, text=True)
    began = time.monotonic()
    with MemorySampler(process.pid, _EVERY_S) as memory:

        def end_stage(name: str) -> None:
            nonlocal began
            ended = time.monotonic()
            own = memory.peak(began, ended, by=lambda one: one.own)
            stages.append((name, memory.peak(began, ended), own))
            began = ended

        assert process.stderr is not None
        for line in process.stderr:
            print(line, end="", file=sys.stderr)
            if line[:1].isalpha() and len(line.split()[0]) < len(line.rstrip()):
                end_stage(line.split()[0])
        code = process.wait()
        end_stage("end")
    print(f"{'stage':12}{'peak MB':>10}{'of it own':>11}{'files':>8}{'peak own':>10}  own of each")
    for name, total, own in stages:
        share = f"{total.total / (options.weights_mb or 1):.2f} x, " * bool(options.weights_mb)
        each = " + ".join(f"{process:.0f}" for process in own.processes)
        print(
            f"{name:12}{total.total:10.0f}{total.own:11.0f}{total.files:8.0f}{own.own:10.0f}"
            f"  {share}{each}"
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
