# ruff: noqa: N812 - TVMScript
"""A source that crashes ends the run with a message, and loses nothing that was known."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import crashing
import numpy as np
import pytest
import tvm
from broken_pipelines import breaks, scale
from tiny_model import model
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml import bring_up
from relax_tapml.bringup._source import Source
from relax_tapml.errors import SourceError, UsageError
from relax_tapml.frontend.model import Model, Sample
from relax_tapml.frontend.paged_drive import PagedDrive


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "division_by_zero",
            "was terminated by SIGFPE on sample 's1', in main/000/fused_add_floor_divide",
        ),
        ("wild_gather", "was terminated by SIGSEGV on sample 's0', in main/001/take"),
        ("wild_scatter", "was terminated by SIGSEGV on sample 's0', in main/000/scatter_elements"),
    ],
)
@pytest.mark.needs_forks
def test_a_crash_of_the_source_names_operator_and_sample(name, told, tmp_path):
    """It is no verdict about the target, and the folder says so too."""
    with pytest.raises(SourceError) as caught:
        bring_up(getattr(crashing, name)(), session="inline", out=tmp_path / "out")
    assert str(caught.value).startswith(f"the source llvm {told}. A source must run the whole ")
    document = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (document["verdict"], document["culprits"]) == ("inconclusive", [])
    assert document["reason"] == str(caught.value)


@pytest.mark.needs_forks
def test_a_source_that_aborts_ends_the_command_line_with_3(models, tmp_path):
    """One line on stderr, and no signal."""
    environment = {**os.environ, "PYTHONPATH": str(models)}
    command = [sys.executable, "-m", "relax_tapml.build", "crashing:aborting", "--out", "out"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    message = "the source llvm was terminated by SIGABRT on sample 'ones', in main/001/die. A"
    assert f"error: {message}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.needs_forks
def test_a_crash_while_constants_are_folded_is_met_by_the_source(tmp_path, caplog):
    """Lowering runs kernels too; it goes on without folding, and the source then says where."""
    with pytest.raises(
        SourceError, match=r"was terminated by SIGSEGV on sample 's0', in main/000/take\. "
    ):
        bring_up(crashing.wild_constant(), session="inline", out=tmp_path / "out")
    assert "take, run on constants of the model, was terminated by SIGSEGV" in caplog.text


@pytest.fixture
def late_crash(monkeypatch):
    """The source fails after the units have been replayed."""

    def fail(*_args, **_options):
        raise SourceError("the source fell over")

    monkeypatch.setattr(Source, "tolerances", fail)


@pytest.mark.usefixtures("late_crash")
def test_culprits_outlive_a_late_error_of_the_source(tmp_path):
    """They were judged on recorded inputs; the reason says what happened afterwards."""
    result = bring_up(
        model(),
        session="inline",
        out=tmp_path / "out",
        repair=False,
        device_pipeline=breaks("softmax", scale),
    )
    assert (result.verdict, result.culprits, int(result.exit_code)) == ("mismatch", ["softmax"], 1)
    assert result.document["reason"] == "the migration stopped: the source fell over"
    assert len(result.document["units"]) == 8


@pytest.mark.usefixtures("late_crash")
def test_without_culprits_a_late_error_is_raised_and_units_are_kept(tmp_path):
    """Nothing was found, and nothing can be said about the rest."""
    with pytest.raises(SourceError, match=r"^the source fell over$"):
        bring_up(model(), session="inline", out=tmp_path / "out")
    document = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (document["verdict"], document["culprits"]) == ("inconclusive", [])
    assert {unit["verdict"] for unit in document["units"]} == {"pass"}


def calling(packed: str) -> Model:
    """A model that calls a packed function between two kernels."""
    ty = relax.TensorType((4,), "float32")
    x = relax.Var("x", ty)
    bb = relax.BlockBuilder()
    with bb.function("main", [x]):
        doubled = bb.emit(relax.op.add(x, x))
        called = bb.emit(relax.op.call_dps_packed(packed, (doubled,), ty))
        bb.emit_func_output(bb.emit(relax.op.nn.relu(called)))
    sample = Sample(name="ones", arrays=(np.ones(4, "float32"),))
    return Model(name="calling", module=bb.get(), params={}, samples=(sample,))


def test_a_call_that_raises_is_an_error_of_the_source(tmp_path):
    """No bug of ours: the operator and what it said are named."""

    @tvm.register_global_func("test_source_crash.raise", override=True)
    def fail(_source, _result):
        raise ValueError("expected a multiple of 8")

    with pytest.raises(SourceError) as caught:
        bring_up(calling("test_source_crash.raise"), session="inline", out=tmp_path / "out")
    assert str(caught.value).startswith("the source llvm fails: ")
    assert "expected a multiple of 8 on sample 'ones', in main/001/" in str(caught.value)


kept: list[object] = []


@tvm.register_global_func("test_source_crash.keep")
def keep(kernel, x):
    """Keep a kernel for later, as a cache does."""
    kept[:] = [kernel]
    return x


@tvm.register_global_func("vm.builtin.test_source_crash_call_kept")
def call_kept(places):
    """Call it where no function of the module runs; refuse more than four places."""
    if places > 4:
        raise ValueError("no place is free")
    kept[0](tvm.runtime.tensor(np.ones(4, "float32")))


@tvm.register_global_func("test_source_crash.unaligned")
def unaligned():
    raise ValueError("expected a multiple of 8")


@I.ir_module
class Keeps:
    @T.prim_func(private=True, s_tir=True)
    def copy_page(x: T.Buffer((4,), "float32")):
        T.evaluate(T.call_packed("test_source_crash.unaligned"))
        for i in range(4):
            with T.sblock("x"):
                x[T.axis.spatial(4, i)] = T.float32(0)

    @R.function(pure=False)
    def main(x: R.Tensor((4,), "float32")):
        cls = Keeps
        return R.call_packed(
            "test_source_crash.keep", cls.copy_page, x, ty_args=R.Tensor((4,), "float32")
        )


def runtime_calls(places: int) -> Model:
    """A model whose drive calls the runtime as that of a KV cache does."""

    def drive(functions, sample):
        outputs = functions["main"](*sample.arrays)
        PagedDrive().engine(functions, 1).call("test_source_crash_call_kept", places)
        return outputs

    sample = Sample(name="ones", arrays=(np.ones(4, "float32"),))
    return Model(name="runtime", module=Keeps, params={}, samples=(sample,), drive=drive)


def test_a_kernel_that_raises_in_a_call_of_the_runtime_is_an_error_of_the_source(tmp_path):
    """It is named; the runtime has refused nothing."""
    options = {"session": "inline", "out": tmp_path / "out", "force": True}
    with pytest.raises(SourceError) as caught:
        bring_up(runtime_calls(4), **options)
    assert str(caught.value).startswith(
        "the source llvm fails: expected a multiple of 8 on sample 'ones', in "
        "callback_copy_page/000/copy_page. A source must run the whole model"
    )
    with pytest.raises(UsageError, match=r"refuses test_source_crash_call_kept: .*no place"):
        bring_up(runtime_calls(5), **options)
    kept.clear()


@pytest.mark.needs_forks
def test_a_source_that_crashes_only_later_is_told_when(tmp_path):
    """The second run in a process is the captured one."""
    calls = []

    @tvm.register_global_func("test_source_crash.second", override=True)
    def second(source, result):
        calls.append(None)
        if len(calls) > 1:
            os.abort()
        result.copyfrom(source.numpy())

    with pytest.raises(SourceError) as caught:
        bring_up(calling("test_source_crash.second"), session="inline", out=tmp_path / "out")
    assert str(caught.value).startswith(
        "the source llvm was terminated by SIGABRT on sample 'ones' while it is captured, in main/"
    )
    assert calls == []


@pytest.mark.needs_forks
def test_a_crash_under_noise_names_the_operator(monkeypatch, tmp_path):
    """A source may stand no change of its values; that is found after the replay."""

    def deadly(_levels, _seed):
        return lambda _func, name, *_args: os.abort() if name == "softmax" else None

    monkeypatch.setattr("relax_tapml.bringup._source.noise", deadly)
    with pytest.raises(SourceError) as caught:
        bring_up(model(), session="inline", out=tmp_path / "out")
    assert str(caught.value).startswith(
        "the source llvm was terminated by SIGABRT on sample 'first' with results moved within "
        "their tolerances, in softmax. "
    )
