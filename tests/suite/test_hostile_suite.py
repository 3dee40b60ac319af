"""A suite that was made to do harm is refused when it is opened."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tvm
from edited_suite import edited
from tvm import relax, tirx

from relax_tapml.carve.select.choose_cases import choose_cases
from relax_tapml.cli.main import main
from relax_tapml.errors import StoreError
from relax_tapml.foreign.module import _Checked
from relax_tapml.replays.replay import replay
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.testing.carved import CarvedSuites

UNIT = "increment"


@contextmanager
def fitted(suite: Path) -> Iterator[dict[str, Any]]:
    """Change a manifest, which then fits the files, as anyone can."""
    with edited(suite) as document:
        yield document
        for name in document["sha256"]:
            document["sha256"][name] = hashlib.sha256((suite / name).read_bytes()).hexdigest()


def replace_module(suite: Path, change: Callable[[tvm.IRModule], tvm.IRModule]) -> Path:
    with fitted(suite) as document:
        path = suite / document["units"][UNIT]["module"]
        path.write_text(tvm.ir.save_json(change(tvm.ir.load_json(path.read_text()))))
    return path


def with_call(call: Any) -> Callable[[tvm.IRModule], tvm.IRModule]:
    """Do a call before the kernel of the unit."""

    def change(module: tvm.IRModule) -> tvm.IRModule:
        kernel = module[UNIT]
        block = kernel.body.block
        body = tirx.SeqStmt([tirx.Evaluate(call), block.body])
        root = type(block)(
            *(block.iter_vars, block.reads, block.writes, block.name_hint, body, block.init),
            *(block.alloc_buffers, block.match_buffers, block.annotations),
        )
        realize = type(kernel.body)(kernel.body.iter_values, kernel.body.predicate, root)
        changed = module.clone()
        changed.update_func(changed.get_global_var(UNIT), kernel.with_body(realize))
        return changed

    return change


def test_a_call_of_the_c_library_is_asked_about(suite):
    harmless = with_call(tirx.call_extern("int32", "getpid"))
    path = replace_module(suite, harmless)
    with pytest.raises(StoreError, match=rf"{path.name}.*getpid.*--tapml-trust"):
        open_suite(suite)
    assert open_suite(suite, trust=True).module(UNIT)
    report = replay(suite, session="inline", units=[UNIT], trust=True)
    assert report.units[UNIT] == "pass"


def test_a_function_named_by_a_path_is_refused(suite, tmp_path):
    """The kernel library wrote the unit's library there."""
    evil = str(tmp_path / "evil")
    with fitted(suite) as document:
        path = suite / document["units"][UNIT]["module"]
        path.write_text(path.read_text().replace(f'"{UNIT}"', f'"{evil}"'))
        document["units"] = {evil if k == UNIT else k: v for k, v in document["units"].items()}
    with pytest.raises(StoreError, match="evil"):
        replay(suite, session="inline")
    assert not list(tmp_path.glob("evil*"))


def test_python_in_a_key_is_refused(suite, tmp_path):
    mark = tmp_path / "ran"

    def change(module: tvm.IRModule) -> tvm.IRModule:
        key = f"a=__import__('pathlib').Path('{mark}').touch(), b"
        attributes = tvm.ir.make_node("ir.DictAttrs", **{key: 1})
        name = next(
            g.name_hint for g, f in module.functions.items() if isinstance(f, relax.Function)
        )
        function = module[name]
        binding = function.body.blocks[0].bindings[0]
        call = relax.Call(
            relax.ExternFunc("foo"), list(function.params), attributes, [binding.var.ty]
        )
        first = relax.VarBinding(relax.Var("evil", binding.var.ty), call)
        block = relax.BindingBlock([first, *function.body.blocks[0].bindings])
        body = relax.SeqExpr([block, *function.body.blocks[1:]], function.body.body)
        made = relax.Function(function.params, body, function.ret_ty, False, function.attrs)
        changed = module.clone()
        changed.update_func(changed.get_global_var(name), made)
        return changed

    replace_module(suite, change)
    with pytest.raises(StoreError, match="is no name"):
        open_suite(suite, trust=True)
    assert main(["reproduce", str(suite), UNIT, "--output", str(tmp_path)]) == 3
    assert not mark.exists()


def test_control_characters_in_names_are_refused(suite):
    unit = "incre\x1b[31mment"
    with edited(suite) as document:
        document["units"] = {unit if k == UNIT else k: v for k, v in document["units"].items()}
    with pytest.raises(StoreError, match=r"x1b\[31m") as caught:
        open_suite(suite)
    assert str(caught.value).isprintable()


def test_what_is_opened_twice_is_checked_once(suite, monkeypatch):
    open_suite(suite)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr("relax_tapml.foreign.loading.forked", never)
    open_suite(suite)
    assert dataclasses.is_dataclass(open_suite(suite).manifest)


def test_carved_tests_ask_too(suite):
    replace_module(suite, with_call(tirx.call_extern("int32", "getppid")))
    unit = open_suite(suite, trust=True).manifest.units[UNIT]
    test, case = str(suite / unit.test), unit.cases[0].name
    about = {"test_files": frozenset({Path(test)}), "target": None, "session": "inline"}
    suites = CarvedSuites(**about, device_pipeline=None, timeout_s=60.0)
    with pytest.raises(pytest.fail.Exception, match=r"getppid.*--tapml-trust"):
        suites.replay(test, unit=UNIT, case=case)
    trusts = CarvedSuites(**about, device_pipeline=None, timeout_s=60.0, trust=True)
    trusts.replay(test, unit=UNIT, case=case)
    trusts.close()


def test_what_a_run_carves_from_its_own_model_is_not_asked_about(recording, tmp_path, monkeypatch):
    """This process has just written it; another one has to trust it."""
    strange = with_call(tirx.call_extern("int32", "getpgrp"))
    lowered = strange(recording.lowered)
    cases = [case for case in choose_cases(recording.store, recording.sites) if case.unit == UNIT]
    folder = tmp_path / "tests"
    recording.write_suite(folder, cases, lowered=lowered, is_probed=False)
    assert open_suite(folder).module(UNIT)
    monkeypatch.setattr("relax_tapml.foreign.module._CHECKED", _Checked(sound=set(), calls=set()))
    with pytest.raises(StoreError, match="getpgrp"):
        open_suite(folder)
