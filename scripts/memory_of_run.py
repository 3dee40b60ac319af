"""Peak memory of a command, its children included, stage by stage.

``python scripts/memory_of_run.py -- python -m relax_tapml.build MODEL --out DIR``

The memory of a process is its PSS: a page that several processes share counts once in all. Printed
apart are pages of its own (anonymous, and shared memory), which the system cannot drop, and pages
of mapped files, which it can. A stage ends with the line that the command prints about it on
stderr; its name is the first word of that line.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_EVERY_S = 0.05


@dataclass
class Peak:
    """The sample of a stage with the most memory: MB by the kind of page.

    ``processes`` has the pages of its own of each process, the command itself first.
    """

    own: float = 0.0
    files: float = 0.0
    processes: list[float] = field(default_factory=list)

    @property
    def total(self) -> float:
        """All of it."""
        return self.own + self.files


@dataclass
class Watch:
    """Samples a process and its children until it ends."""

    process: subprocess.Popen[str]
    stages: list[tuple[str, Peak, Peak]] = field(default_factory=list)
    _total: Peak = field(default_factory=Peak)
    _own: Peak = field(default_factory=Peak)

    def run(self) -> None:
        """Sample until the process has ended."""
        while self.process.poll() is None:
            now = memory_of_tree(self.process.pid)
            self._total = max(self._total, now, key=lambda peak: peak.total)
            self._own = max(self._own, now, key=lambda peak: peak.own)
            time.sleep(_EVERY_S)

    def end_stage(self, name: str) -> None:
        """Add the peaks since the last stage ended."""
        self.stages.append((name, self._total, self._own))
        self._total, self._own = Peak(), Peak()


def memory_of_tree(pid: int) -> Peak:
    """Return the memory of a process and its children now."""
    found = Peak()
    try:
        tree = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return found
    for one in tree:
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:  # It has ended.
            continue
        kinds = {line.split(":")[0]: line.split()[1] for line in text.splitlines()[1:]}
        files = float(kinds.get("Pss_File", 0)) * 1024 / 1e6
        found.files += files
        own = float(kinds.get("Pss", 0)) * 1024 / 1e6 - files
        found.own += own
        found.processes.append(own)
    return found


def main() -> int:
    """Run the command; exit as it does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights-mb", type=float, help="print peaks as multiples of this, too")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    process = subprocess.Popen(options.command, stderr=subprocess.PIPE, text=True)
    watch = Watch(process)
    thread = threading.Thread(target=watch.run)
    thread.start()
    assert process.stderr is not None
    for line in process.stderr:
        print(line, end="", file=sys.stderr)
        if line[:1].isalpha() and len(line.split()[0]) < len(line.rstrip()):
            watch.end_stage(line.split()[0])
    code = process.wait()
    thread.join()
    watch.end_stage("end")
    print(f"{'stage':12}{'peak MB':>10}{'of it own':>11}{'files':>8}{'peak own':>10}  own of each")
    for name, total, own in watch.stages:
        share = f"{total.total / (options.weights_mb or 1):.2f} x, " * bool(options.weights_mb)
        each = " + ".join(f"{process:.0f}" for process in own.processes)
        print(
            f"{name:12}{total.total:10.0f}{total.own:11.0f}{total.files:8.0f}{own.own:10.0f}"
            f"  {share}{each}"
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
