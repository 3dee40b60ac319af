"""Processes of our own."""

from __future__ import annotations

import socket
from contextlib import closing

import psutil
import pytest

from relax_tapml.targets.child import Child, log_tail
from relax_tapml.targets.platforms.cuda import Cuda
from relax_tapml.targets.platforms.local import Local

SAYS = """
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
    (tmp_path / "says.py").write_text(SAYS)
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = Child(
            "says",
            [listener],
            ["argument"],
            log=log,
            environment={"PYTHONPATH": str(tmp_path)},
            has_torch=has_torch,
        )
        with closing(child):
            assert child.exit_code(60) == 0
        assert log_tail(log) == f"{found} ['{listener.fileno()}', 'argument']"


@pytest.mark.parametrize(("platform", "is_without"), [(Local(), True), (Cuda(), False)])
def test_only_devices_of_gpus_start_with_torch(platform, is_without):
    with closing(platform.start()) as server:
        command = psutil.Process(server._child.pid).cmdline()
        assert ("relax_tapml.targets.without_torch" in command) == is_without
