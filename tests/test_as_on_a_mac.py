"""A sample of the suite with what macOS lacks taken away; the script runs more of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = [
    "tests/test_main_job.py::test_samples_may_be_given_as_plain_arrays",
    "tests/targets/server/test_file_exchange.py::test_file_grows_with_the_tensors",
    "tests/files/test_files.py::test_a_folder_that_its_check_refuses_replaces_nothing",
    "tests/targets/fleet/test_own_user.py::test_a_connection_that_is_closed_is_nobodys[processes]",
]


def test_a_sample_passes() -> None:
    """A whole run, and a device process: without forks, and without Linux's files and calls."""
    command = [sys.executable, "scripts/as_on_a_mac.py", "-q", *SAMPLE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
