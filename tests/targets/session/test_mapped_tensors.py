"""Tensors of a session that have the pages of a file."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from relax_tapml.capture.host_tensor import HostTensor
from relax_tapml.errors import MachineError, StoreError
from relax_tapml.files.mapped import map_file
from relax_tapml.targets.open_session import open_session
from relax_tapml.targets.platforms.parse_target import parse_target

LLVM = parse_target("llvm")


def _write(session, tensor, place):
    """Change a byte, as a kernel would."""
    if getattr(session, "_files", None) is None:
        HostTensor.view_of(tensor).data[place] ^= 1
        return
    content = session.download(tensor)
    changed = bytes([int(content[place]) ^ 1])
    session._files._file.at_least(1)[:1] = changed
    session._files._put(tensor, place, 1)


@pytest.mark.parametrize("kind", ["inline", "process"])
def test_what_is_written_is_seen_and_stays_there(kind, tmp_path):
    """In any page, the first and the last byte of it; the file and the array keep theirs."""
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(0).bytes(64 + 5 * 4096 + 8))
    array = map_file(path, fix="", max_bytes=1 << 20)[64:]
    before = array.copy()
    with closing(open_session(kind, LLVM)) as session:
        for place in (0, 4095 - 64, 4096 - 64, 3 * 4096, array.size - 1):
            tensor = session.upload(array)
            assert session.holds(tensor, array)
            _write(session, tensor, place)
            assert not session.holds(tensor, array)
            _write(session, tensor, place)
            assert session.holds(tensor, array)
    assert array.tobytes() == before.tobytes()
    assert path.read_bytes()[64:] == before.tobytes()


@pytest.mark.parametrize("error", [StoreError, MachineError])
def test_what_cannot_be_mapped_is_copied(tmp_path, monkeypatch, error):
    """For want of descriptors or address space."""

    def refuse(*_args, **_kwargs):
        raise error("no room")

    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)))
    array = map_file(path, fix="", max_bytes=1 << 20)
    monkeypatch.setattr("relax_tapml.targets.session.inline.array_at", refuse)
    with closing(open_session("inline", LLVM)) as session:
        tensor = session.upload(array)
        assert session.holds(tensor, array)
        assert session.download(tensor).tobytes() == array.tobytes()
