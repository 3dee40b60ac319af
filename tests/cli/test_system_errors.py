"""What the system refuses is neither a bug nor a verdict."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import threading
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from relax_tapml.cli.exit import guarded

LONG = "x" * 300


@pytest.fixture
def outcome(capsys):
    """A function that runs an action as a command; returns its exit code and its message."""

    def run(action, **args):
        def command(_):
            action()
            return 0

        code = guarded(command)(Namespace(**args))
        out, err = capsys.readouterr()
        assert out == ""
        assert "bug" not in err
        assert "Traceback" not in err
        return code, err

    return run


@pytest.fixture
def places(tmp_path):
    """A folder with paths that cannot be used."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone" / "file")
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "use", "number"),
    [
        ("missing", Path.read_bytes, errno.ENOENT),
        (LONG, Path.touch, errno.ENAMETOOLONG),
        ("loop", Path.read_bytes, errno.ELOOP),
        ("loop", lambda path: path.resolve(strict=True), errno.ELOOP),
        ("file/below", Path.read_bytes, errno.ENOTDIR),
        (".", Path.read_bytes, errno.EISDIR),
        ("dangling", lambda path: path.mkdir(), errno.EEXIST),
    ],
)
@pytest.mark.parametrize("is_given", [True, False])
def test_a_path_is_named_with_the_systems_words(name, use, number, is_given, places, outcome):
    """A path of the command line is a wrong request; any other one is not."""
    path = places / name
    code, message = outcome(lambda: use(path), **({"out": path} if is_given else {"session": "x"}))
    assert code == (2 if is_given else 3)
    assert str(path) in message
    assert os.strerror(number) in message
    if name == "dangling":
        assert str(places / "gone" / "file") in message


def test_a_folder_above_a_path_of_the_command_line_is_part_of_it(places, outcome):
    wanted = places / "file" / "a" / "b"
    assert outcome(lambda: wanted.mkdir(parents=True), out=wanted)[0] == 2


def raises(error):
    raise error


def os_error(number, *files):
    return OSError(number, os.strerror(number), *files)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (os_error(errno.ENOSPC, "/x/y"), "No space left on device (/x/y: "),
        (os_error(errno.EACCES, "/x/y"), "Permission denied (/x/y: "),
        (os_error(errno.EMFILE), "Too many open files. "),
        (os_error(errno.EXDEV, "/a", None, "/b"), "cannot use /a and /b: Invalid cross-device"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "Broken pipe"),
        (TimeoutError("timed out"), "timed out"),
        (MemoryError(), "out of memory"),
        (RuntimeError("can't start new thread"), "can't start new thread"),
        (RuntimeError("std::bad_alloc"), "std::bad_alloc. "),
        (RuntimeError("No space left on device (os error 28)"), "Free space"),
        (OSError("[Errno 24] Too many open files"), "(ulimit -n)"),
        (ValueError("embedded null byte"), "NUL character"),
        (UnicodeEncodeError("latin-1", "漢", 0, 1, "no"), "latin-1"),
        (sqlite3.OperationalError("disk I/O error"), "disk I/O error"),
    ],
)
def test_the_system_refuses_in_many_ways(error, words, outcome):
    """Also a broken pipe, which may be a device's: it is no success."""
    code, message = outcome(lambda: raises(error))
    assert code == 3
    assert words in message


def test_what_really_happens_is_recognised(tmp_path, outcome):
    """Not only what a test makes up."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def open_many():
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())), limits[1])
        )
        try:
            with ExitStack() as stack:
                for _ in range(1000):
                    stack.enter_context(Path(os.devnull).open())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert "Too many open files" in outcome(open_many)[1]
    assert "Unable to allocate" in outcome(lambda: np.zeros(2**58))[1]
    database = tmp_path / "database"
    database.write_bytes(b"x" * 10_000)
    code, message = outcome(lambda: sqlite3.connect(database).execute("SELECT * FROM a"))
    assert (code, "file is not a database" in message) == (3, True)
    assert outcome(lambda: Path("a\0b").read_bytes(), out="a\0b")[0] == 2


def test_a_name_that_an_encoding_lacks_is_named(outcome):
    code, message = outcome(lambda: "run/\udcff/a.so".encode(), out=Path("run/\udcff"))
    assert code == 2
    assert "run/\\udcff/a.so" in message


def test_a_thread_gets_the_same_treatment(outcome):
    """Where no signal can be handled."""
    codes = []
    thread = threading.Thread(
        target=lambda: codes.append(outcome(lambda: raises(os_error(errno.EIO)))[0])
    )
    thread.start()
    thread.join()
    assert codes == [3]


def test_a_file_of_a_library_that_is_missing_is_no_wrong_usage(outcome):
    assert outcome(lambda: Path("/no/such/file").read_bytes(), model="minilm", n=3)[0] == 3
