"""Run tests with what Linux has and macOS lacks taken away, in this process and its children.

    python scripts/as_on_a_mac.py [PYTEST ARGUMENT ...]

Without arguments the core of the suite is run: the main job, the law of boundaries, sessions,
files, processes, kernels, carving, replays, the command line. It shows that the package is portable
Python; not how macOS loads libraries nor how Metal runs, for which a Mac is needed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "models"))

import without_linux  # noqa: E402

CORE = [
    *("tests/test_main_job.py", "tests/test_build.py", "tests/test_source_crash.py"),
    *("tests/files", "tests/processes", "tests/foreign", "tests/capture", "tests/partition"),
    *("tests/passes", "tests/suite", "tests/replays", "tests/bringup", "tests/migrate"),
    *("tests/targets", "tests/cli", "tests/cpu_schedule", "tests/test_fleet_run.py"),
]


def main() -> int:
    """Return pytest's exit code."""
    os.environ[without_linux.VARIABLE] = "1"
    without_linux.take_away()
    import pytest  # after it, as all that is run

    os.chdir(ROOT)
    return int(pytest.main(["-n", "0", *(sys.argv[1:] or CORE)]))


if __name__ == "__main__":
    sys.exit(main())
