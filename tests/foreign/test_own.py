"""What a run of ours has written may call what its model calls, also for a later command."""

from __future__ import annotations

import pytest
import tvm
from tvm import tirx

from relax_tapml.errors import StoreError
from relax_tapml.foreign.module import read_module
from relax_tapml.foreign.own import is_own, remember


def test_own_contents_are_not_asked_about(tmp_path, monkeypatch):
    monkeypatch.setenv("RELAX_TAPML_CACHE", str(tmp_path))
    call = tirx.Evaluate(tirx.call_extern("int32", "getppid"))
    data = tvm.ir.save_json(tvm.IRModule({"kernel": tirx.PrimFunc([], call)})).encode()
    with pytest.raises(StoreError, match="getppid"):
        read_module(data, "device.json", fix="")
    remember(data)
    assert is_own(data)
    assert not is_own(data + b" ")
    read_module(data, "device.json", fix="")


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RELAX_TAPML_CACHE", str(tmp_path / "file"))
    remember(b"x")
    assert not is_own(b"x")
