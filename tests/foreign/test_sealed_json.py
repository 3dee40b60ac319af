"""Modules that a run has written may call anything, also in later commands of the same user."""

from __future__ import annotations

import pytest
import tvm
from tvm import tirx

from relax_tapml.errors import StoreError
from relax_tapml.foreign.module import read_module, sealed_json

MODULE = tvm.IRModule(
    {"kernel": tirx.PrimFunc([], tirx.Evaluate(tirx.call_extern("int32", "getppid")))}
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RELAX_TAPML_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_sealed_module_may_call_anything():
    with pytest.raises(StoreError, match="getppid"):
        read_module(tvm.ir.save_json(MODULE).encode(), "device.json", fix="")
    read = read_module(sealed_json(MODULE).encode(), "device.json", fix="")
    tvm.ir.assert_structural_equal(read, MODULE)


def test_a_changed_module_has_no_seal():
    data = sealed_json(MODULE).encode().replace(b"getppid", b"getsids")
    with pytest.raises(StoreError, match="getsids"):
        read_module(data, "device.json", fix="")


def test_the_seal_of_another_user_does_not_count(tmp_path, monkeypatch):
    data = sealed_json(MODULE).encode()
    monkeypatch.setenv("RELAX_TAPML_CACHE", str(tmp_path / "other"))
    with pytest.raises(StoreError, match="getppid"):
        read_module(data, "device.json", fix="")


def test_a_sealed_module_is_json_that_tvm_reads():
    tvm.ir.assert_structural_equal(tvm.ir.load_json(sealed_json(MODULE)), MODULE)


def test_a_cache_that_cannot_be_written_is_no_error(cache):
    cache.touch()
    sealed_json(MODULE)
