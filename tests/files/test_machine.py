"""Failures of the machine are distinguished from others."""

from __future__ import annotations

import errno
import resource
import sqlite3
import tempfile

import pytest

from relax_tapml.errors import MachineError
from relax_tapml.files.machine import (
    lack_in,
    lack_now,
    lack_of,
    machine_errors,
    raise_machine_error,
)
from relax_tapml.processes.fork import forked

FULL = OSError(errno.ENOSPC, "No space left on device", "/tmp/kernel.o")


def behind(error: BaseException) -> Exception:
    """Return another error that was raised because of one, and one that hides it."""
    try:
        try:
            raise error
        except BaseException:
            raise RuntimeError("compilation failed") from None
    except RuntimeError as found:
        return found


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FULL, "No space left on device (/tmp/kernel.o: "),
        (behind(FULL), "No space left on device"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (OSError(errno.ENOENT, "No such file or directory", "g++"), "no g++ in PATH"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/kernels"), "(/a/kernels"),
        (MemoryError(), "out of memory"),
        (RuntimeError("ld: final link failed: No space left on device"), "final link failed"),
        (RuntimeError("g++: fatal error: Killed signal terminated program cc1plus"), "cc1plus"),
        (
            RuntimeError("xcrun: error: invalid active developer path (/Library/Developer)"),
            "invalid active developer path",
        ),
        (RuntimeError("xcode-select: note: no developer tools were found"), "no developer tools"),
        (RuntimeError("OperationalError: database or disk is full"), "disk is full"),
        (RuntimeError("collect2: fatal error: cannot find \u2018ld\u2019"), "cannot find"),
        (RuntimeError("OSError: [Errno 24] Too many open files: '/tmp/x'"), "Too many open files"),
    ],
)
def test_what_a_machine_lacks_is_reported(error, message):
    """By its number or its text, however deep it is."""
    found = lack_of(error)
    assert found is not None
    assert message in found.text
    with pytest.raises(
        MachineError, match=r"^building: .*\. .*, then run it again; a build goes on with --resume$"
    ):
        raise_machine_error(error, "building")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOENT, "No such file or directory", "suite.json"),
        ValueError("memory planning failed: shapes differ"),
        RuntimeError("LLVM ERROR: Cannot select: t7"),
        RuntimeError("kernel softmax needs 70000 bytes of shared memory"),
        sqlite3.OperationalError("no such table: samples"),
    ],
)
def test_other_failures_are_not_the_machines(error):
    assert lack_of(error) is None
    raise_machine_error(error, "building")


def test_a_full_database_is_the_machine(tmp_path):
    """SQLite has a number for that."""
    connection = sqlite3.connect(tmp_path / "index.sqlite")
    connection.execute("pragma max_page_count = 2")
    connection.execute("create table samples (name)")
    with pytest.raises(MachineError, match="full"), machine_errors("recording"):
        connection.execute("insert into samples values (zeroblob(100000))")
    connection.close()


def test_a_machine_error_passes_as_it_is():
    error = MachineError("no room")
    with pytest.raises(MachineError) as caught:
        raise_machine_error(behind(error), "building")
    assert caught.value is error


def test_nothing_is_lacking_where_all_is_well(tmp_path):
    assert lack_now(tmp_path) is None
    assert lack_now(tmp_path / "nowhere") is None
    assert lack_in("") is None


@pytest.mark.parametrize(
    ("limit", "message"),
    [(resource.RLIMIT_FSIZE, "File too large"), (resource.RLIMIT_NOFILE, "Too many open files")],
)
@pytest.mark.needs_forks
def test_a_probe_finds_what_no_text_reports(tmp_path, limit, message):
    def work(fork) -> None:
        resource.setrlimit(limit, (10, 10))
        found = lack_now(tmp_path)
        fork.send(None if found is None else found.text)

    tempfile.gettempdir()  # Found once, before there is a limit.
    (sent,) = forked(work)
    assert message in sent.document
