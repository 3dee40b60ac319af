"""Processes of our own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing

import psutil
import pytest
from transferred import check_gone

from relax_tapml.files.scratch import ScratchFolder
from relax_tapml.processes.child import Child
from relax_tapml.targets.platforms._cuda import Cuda
from relax_tapml.targets.platforms._local import Local

MODULE = """
import sys

if __name__ == "__main__":
    try:
        import torch
        print("torch", sys.argv[1:])
    except ImportError:
        print("none", sys.argv[1:])
"""


@pytest.mark.parametrize(("has_torch", "found"), [(True, "torch"), (False, "none")])
def test_a_process_has_torch_if_it_needs_it(has_torch, found, tmp_path):
    """Either way the module is the main one, and has its arguments."""
    pytest.importorskip("torch")
    (tmp_path / "printing.py").write_text(MODULE)
    scratch = ScratchFolder(tmp_path)
    folder = scratch.path
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = Child(
            "printing",
            [listener],
            ["argument"],
            folder=scratch,
            environment={"PYTHONPATH": str(tmp_path)},
            has_torch=has_torch,
        )
        with closing(child):
            assert child.exit_code(60) == 0
            assert child.log_tail() == f"{found} ['{listener.fileno()}', 'argument']"
    assert not folder.exists()


def test_a_process_does_not_import_from_the_current_folder(tmp_path, monkeypatch):
    """Which may hold any files; it has the import path of its parent."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "json.py").write_text("print('planted', flush=True)\n")
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "printing.py").write_text("import json\nprint(json.dumps('first'))\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path / "first")
    with closing(Child("printing", [], folder=ScratchFolder(tmp_path))) as child:
        assert child.exit_code(600) == 0
        assert child.log_tail() == '"first"'


@pytest.mark.parametrize(("platform", "is_without"), [(Local(), True), (Cuda(), False)])
def test_only_devices_of_gpus_start_with_torch(platform, is_without):
    with closing(platform.start()) as server:
        process = psutil.Process(server._child.pid)
        while not (command := process.cmdline()):  # it is just being started
            pass
        assert ("relax_tapml.processes._without_torch" in command) == is_without


@pytest.mark.parametrize("is_given", [True, False])
def test_a_process_removes_only_a_folder_that_it_was_given(is_given, tmp_path):
    """Without one of its own, TMPDIR is shared by all users."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    script = (
        "import time\n"
        "from relax_tapml.processes.child import end_with_parent\n"
        "end_with_parent()\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder)},
        start_new_session=True,
    )
    process.communicate(f"{folder if is_given else ''}\nsecret\n".encode(), timeout=600)
    assert process.returncode == -signal.SIGKILL
    assert folder.exists() is not is_given


LEAVES = """
import subprocess, sys

if __name__ == "__main__":
    print(subprocess.Popen(["sleep", "600"]).pid)
"""


def test_whom_a_process_leaves_behind_ends_when_its_own_end_is_seen(tmp_path):
    """Although it has no parent then, and the process itself cannot be killed any more."""
    (tmp_path / "leaves.py").write_text(LEAVES)
    scratch = ScratchFolder(tmp_path)
    environment = {"PYTHONPATH": str(tmp_path)}
    with closing(Child("leaves", [], folder=scratch, environment=environment)) as child:
        while child.exit_code(60) is None:
            pass
        left = int(child.log_tail())
        if psutil.pid_exists(left):
            check_gone([psutil.Process(left)])


def test_a_folder_goes_although_something_is_still_written_to_it(tmp_path, monkeypatch):
    """By children that are dying, when it is removed."""
    scratch = ScratchFolder(tmp_path)
    folder = scratch.path
    removals = []

    def remove(path, **options):
        rmtree(path, **options)
        if not removals:
            path.mkdir()
        removals.append(path)

    rmtree = shutil.rmtree
    monkeypatch.setattr("relax_tapml.files.scratch.shutil.rmtree", remove)
    Child("platform", [], folder=scratch).close()
    assert removals == [folder, folder]
    assert not folder.exists()
