"""The command line: what it writes, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_model import UNITS

from relax_tapml import bring_up
from relax_tapml.build import main
from relax_tapml.cli import main as subcommands
from relax_tapml.frontend.scenarios import SCENARIOS
from relax_tapml.progress import SilentReporter, SilentStage

MODEL = "tiny_model:model"
STAGES = ["model", "plan", "source", "capture", "carve", "kernels", "replay", "migrate"]
LINES = ["model", "plan", "source", "plan", *STAGES[3:]]


def strict(text):
    """Parse JSON that has neither NaN nor infinities."""

    def fail(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=fail)


@pytest.fixture
def build(capsys, tmp_path):
    """Run the command line in this process, with its output folder in ``tmp_path``."""

    def run(*arguments, out=tmp_path / "out"):
        code = main([*map(str, arguments), "--out", str(out)])
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err, folder=out)

    return run


@pytest.fixture(scope="module")
def environment(models):
    """Of a fresh process, in which the models can be imported and pytest has no say."""
    kept = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    return {**kept, "PYTHONPATH": str(models)}


@pytest.fixture(scope="module")
def done(tmp_path_factory, environment):
    """A whole run in a process of its own, from another folder, with the defaults."""
    folder = tmp_path_factory.mktemp("elsewhere")
    command = [sys.executable, "-m", "relax_tapml.build", MODEL, "--json"]
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800
    )
    return SimpleNamespace(run=run, folder=folder / "dist" / "tiny_model.model")


def test_json_prints_the_document_and_nothing_else(done):
    """Stdout is one strict JSON document, the one of result.json; progress is on stderr."""
    assert done.run.returncode == 0, done.run.stderr
    document = strict(done.run.stdout)
    assert document == strict((done.folder / "result.json").read_text())
    assert done.run.stdout.count("\n") == 1
    assert [line.split()[0] for line in done.run.stderr.splitlines()] == LINES


def test_the_document_has_every_key_of_the_contract(done):
    """Scripts rely on names and types."""
    document = strict(done.run.stdout)
    number = int | float
    assert (document["schema"], document["verdict"], document["culprits"]) == (1, "pass", [])
    assert [unit["name"] for unit in document["units"]] == UNITS
    for unit in document["units"]:
        types = {
            "verdict": str,
            "reason": str,
            "error": number,
            "tolerance": number,
            "sites": int,
            "cases": int,
        }
        assert all(isinstance(unit[key], kind) for key, kind in types.items()), unit
        assert (unit["verdict"], unit["reason"]) == ("pass", "")
        assert unit["tolerance"] > 0
    assert {unit["name"]: unit["sites"] for unit in document["units"]}["matmul"] == 2
    assert len(document["steps"]) == len(UNITS) + 1
    for step in document["steps"]:
        types = {
            "boundary": list,
            "verdict": str,
            "seconds": dict,
            "kernels_built": int,
            "bytes_moved": int,
        }
        assert all(isinstance(step[key], kind) for key, kind in types.items()), step
        assert step["seconds"].keys() == {"shift", "run"}
        assert (step["verdict"], step["kernels_built"]) == ("pass", 0)
    assert document["steps"][-1]["boundary"] == sorted(UNITS)
    assert document["skipped"] == []
    assert all(isinstance(version, str) for version in document["versions"].values())
    assert document["seconds"].keys() == {
        "load",
        "lower",
        "build_kernels",
        "capture",
        "carve",
        "replay",
        "migrate",
        "repair",
        "total",
    }
    assert all(isinstance(spent, float) for spent in document["seconds"].values())
    assert document["import_check"]["verdict"] == "pass"


def test_the_folder_holds_what_is_promised(done):
    """And no scratch file besides."""
    assert {path.name for path in done.folder.iterdir()} == {
        "result.json",
        "state.json",
        "lowered.json",
        "boundaries",
        "device.json",
        "report.html",
        "captures",
        "tests",
        "kernels",
        "bundle",
    }
    names = {path.name for path in (done.folder / "tests").glob("test_*.py")}
    assert names == {f"test_{unit}.py" for unit in UNITS}
    scratch = [path for path in done.folder.rglob(".*") if path.name != ".gitignore"]
    assert scratch == []


def run_suite(done, environment, tmp_path, *options):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly"]
    command += ["-v", str(done.folder / "tests"), "--tapml-target", "llvm"]
    command += ["--tapml-session", "inline", *options]
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800
    )
    outcomes = re.findall(r"test_(\w+)\.py::\S+ (PASSED|FAILED|SKIPPED|ERROR)", run.stdout)
    return run, {
        outcome: {unit for unit, how in outcomes if how == outcome} for _, outcome in outcomes
    }


def test_the_suite_passes_under_plain_pytest(done, environment, tmp_path):
    """In a fresh process, from another folder."""
    run, outcomes = run_suite(done, environment, tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert outcomes == {"PASSED": set(UNITS)}


def test_the_suite_fails_for_a_broken_kernel_and_names_it(done, environment, tmp_path):
    """With the pipeline that has it, and nothing else fails."""
    pipeline = "broken_pipelines:fused_gelu_nan"
    run, outcomes = run_suite(done, environment, tmp_path, "--tapml-device-pipeline", pipeline)
    assert run.returncode == 1, run.stdout + run.stderr
    assert outcomes == {"PASSED": set(UNITS) - {"fused_gelu"}, "FAILED": {"fused_gelu"}}
    assert "fused_gelu at main/003/fused_gelu: mismatch" in run.stdout


def test_a_wrong_kernel_ends_with_1_and_is_explained(build):
    """The person reads which, by how much, what still works, and what to run next."""
    pipeline = "broken_pipelines:softmax_nan"
    broken = ("--device-pipeline", pipeline)
    ended = build(MODEL, "--session", "inline", *broken, "--no-repair")
    assert ended.code == 1
    document = strict((ended.folder / "result.json").read_text())
    assert (document["verdict"], document["culprits"]) == ("mismatch", ["softmax"])
    wrong = next(unit for unit in document["units"] if unit["name"] == "softmax")
    assert wrong["error"] == "nan"
    assert wrong["first"]["actual"] == "nan"
    told = " ".join(ended.out.split())
    assert "1 of 8 units is wrong on llvm" in told
    assert "(7 more pass;" in told
    assert f"{ended.folder / 'bundle'} keeps this unit on the host." in told
    assert f"--tapml-device-pipeline {pipeline} -k softmax" in told
    for name in set(UNITS) - {"softmax"}:
        assert not re.search(rf"\b{name}\b", ended.out)


def test_the_framework_is_asked_before_the_target(build):
    """A source that computes something else ends with 3, and nothing is said about the target."""
    ended = build("tiny_model:misread_by_the_importer", "--session", "inline")
    assert ended.code == 3
    assert re.search(
        r"^error: import of misread: the source build does not compute what the framework does: "
        r"differs by up to \S+, 31 of 32 values, first at \[0, 0\]: expected \S+, got \S+; tol",
        ended.err,
        re.MULTILINE,
    )
    document = strict((ended.folder / "result.json").read_text())
    assert (document["verdict"], document["culprits"]) == ("inconclusive", [])
    assert (document["units"], document["steps"]) == ([], [])
    assert [unit["name"] for unit in document["unjudged"]] == list(UNITS)
    assert sum(map(sum, document["import"]["error_map"]["wrong"])) == 31
    assert "The run ended before any unit was judged" in (ended.folder / "report.html").read_text()
    assert document["import_check"]["verdict"] == "mismatch"
    assert f"error: {document['reason']}" in ended.err
    assert not (ended.folder / "captures").exists()
    assert "tolerance" in document["reason"]
    assert "root mean square of the framework's output" in document["reason"]


def test_the_run_goes_on_in_spite_of_the_framework_if_it_is_asked_to(build):
    """The target is judged against the source; the result keeps the warning."""
    ended = build("tiny_model:misread_by_the_importer", "--session", "inline", "--no-import-check")
    assert ended.code == 0
    document = strict((ended.folder / "result.json").read_text())
    assert (document["verdict"], document["import_check"]["verdict"]) == ("pass", "mismatch")
    assert document["import"]["verdict"] == "mismatch"
    warning = document["import"]["warning"]
    assert warning.startswith("import of misread: the source build does not compute what")
    told = " ".join(ended.out.split())
    assert f"Warning: {warning}." in told
    assert "The run went on nevertheless" in (ended.folder / "report.html").read_text()


def test_an_output_that_the_framework_cannot_judge_is_told(build):
    """Scores near 0, which the framework has in steps of 2**-25: nobody is accused."""
    ended = build("small_scores:model", "--session", "inline")
    assert ended.code == 0
    document = strict((ended.folder / "result.json").read_text())
    assert document["import"]["verdict"] == "inconclusive"
    assert "comparing with the framework" in document["import"]["warning"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["minilmm"], 2, "no model 'minilmm'. Did you mean minilm? MODEL is one of:"),
        (
            ["no_such_package:model"],
            2,
            "model no_such_package:model: no module 'no_such_package' here or in the environment. "
            "Run from the directory that holds it, or install its package.",
        ),
        (
            ["tiny_model:modell"],
            2,
            "model tiny_model:modell: tiny_model has no 'modell'. Did you mean model or Model?",
        ),
        (["missing.json"], 2, "model missing.json: no such file."),
        (
            [MODEL, "--target", "lvm"],
            2,
            "target 'lvm' is not known to TVM: Target kind \"lvm\" is not defined. ",
        ),
        ([MODEL, "--source", "lvm"], 2, "target 'lvm' is not known to TVM: "),
        (
            [MODEL, "--text", "Rain?"],
            2,
            f"model {MODEL} takes arrays, not texts. Give --inputs; --text is for minilm, "
            "mlc:CONFIG and hf:FOLDER",
        ),
        (
            [MODEL, "--migrate", "some"],
            2,
            "--migrate some: expected all, next or a number",
        ),
        (
            [MODEL, "--session", "here"],
            2,
            "session 'here' of target llvm: expected inline, process, rpc:HOST:PORT or "
            "tracker:HOST:PORT:KEY",
        ),
        (
            [MODEL, "--session", "rpc:127.0.0.1:1"],
            3,
            "no device session on rpc:127.0.0.1:1: cannot connect to 127.0.0.1:1: [Errno 111] "
            "Connection refused. Start 'python -m tvm.exec.rpc_server --port 1' there, or check "
            "the address and the firewall",
        ),
        (
            [MODEL, "--device-pipeline", "no_such_package:p"],
            2,
            "pipeline 'no_such_package:p' cannot be imported: No module named 'no_such_package'. "
            "MODULE must be importable from ",
        ),
        (
            [MODEL, "--device-pipeline", "broken_pipelines:raises"],
            3,
            "pipeline 'Raises' raised RuntimeError: no schedule for softmax",
        ),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else "",
)
def test_a_wrong_request_is_told_and_decides_the_exit_code(build, arguments, code, message):
    """What is wrong, what was expected; no traceback, and nothing on stdout."""
    ended = build(*arguments)
    assert ended.code == code
    [error] = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: {message}")
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert not (ended.folder / "result.json").exists()


@pytest.mark.parametrize("option", [["--strategy", "random"], ["--by", "day"], ["--nonsense"]])
def test_an_unknown_option_or_choice_is_wrong_usage(option, capsys, tmp_path):
    """It ends before anything is written."""
    with pytest.raises(SystemExit) as caught:
        main([MODEL, *option, "--out", str(tmp_path / "out")])
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


X = np.zeros((4, 8), "float32")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda path: np.savez(path, x=np.zeros((4, 9), "float32")),
            "x.npz: input 'x': expected shape [4, 8], got [4, 9]. Give an array of the expected "
            "shape.",
        ),
        (
            lambda path: np.savez(path, x=np.zeros((4, 8))),
            "x.npz: input 'x': expected float32, got float64. Convert it: array.astype('float32').",
        ),
        (lambda path: None, "inputs {path}: no such file or folder."),
    ],
    ids=["shape", "dtype", "missing"],
)
def test_inputs_that_do_not_fit_are_told_before_anything_runs(build, tmp_path, write, message):
    """Which file and input, expected and got; the output folder is not touched."""
    path = tmp_path / "x.npz"
    write(path)
    ended = build(MODEL, "--inputs", path)
    assert ended.code == 2
    assert ended.err.splitlines()[-1] == f"error: {message.format(path=path)}"
    assert not ended.folder.exists()


def test_each_input_file_is_a_sample(build, tmp_path):
    """A folder stands for its files."""
    (tmp_path / "more").mkdir()
    for name in ("one.npz", "more/two.npz", "more/three.npz"):
        np.savez(tmp_path / name, x=X + len(name))
    inputs = [tmp_path / "one.npz", tmp_path / "more"]
    ended = build(MODEL, "--session", "inline", "--json", "--inputs", *inputs)
    assert ended.code == 0
    assert strict(ended.out)["model"]["samples"] == 3


def test_an_error_is_json_too(build):
    """With --json there is always one document on stdout."""
    ended = build("minilmm", "--json")
    error = strict(ended.out)["error"]
    assert (error["kind"], error["exit_code"], ended.code) == ("UsageError", 2, 2)
    assert error["message"].startswith("no model 'minilmm'.")


def test_verbose_shows_the_traceback(build):
    """And where the pipeline raised."""
    pipeline = "broken_pipelines:raises"
    ended = build(MODEL, "--session", "inline", "--device-pipeline", pipeline, "--verbose")
    assert ended.code == 3
    assert "Traceback (most recent call last)" in ended.err
    assert "broken_pipelines.py" in ended.err


def test_a_bug_of_ours_ends_with_70(build, monkeypatch):
    """It is not blamed on the user, nor on the target."""

    def bug(**_):
        raise KeyError("unit")

    monkeypatch.setattr("relax_tapml.bringup.carved_suite.choose_cases", lambda *_, **__: bug())
    ended = build(MODEL, "--session", "inline")
    assert ended.code == 70
    assert ended.err.splitlines()[-2:] == [
        "error: internal error: KeyError: 'unit'",
        "       This is a bug of relax_tapml. Run again with --verbose for the traceback.",
    ]


def test_an_earlier_run_is_kept_unless_told_otherwise(build, finished):
    """--force replaces it, but deletes no file that a run has not written."""
    (finished / "notes.txt").write_text("mine")
    before = (finished / "result.json").read_text()
    ended = build(MODEL, "--session", "inline", out=finished)
    assert ended.code == 2
    assert ended.err.splitlines()[-1] == (
        f"error: --out {finished}: the folder has an earlier run. Continue it with --resume, "
        "delete it with --force, or name another folder"
    )
    assert (finished / "result.json").read_text() == before
    pipeline = "broken_pipelines:sum_scale"
    ended = build(
        MODEL, "--session", "inline", "--force", "--device-pipeline", pipeline, out=finished
    )
    assert ended.code == 1
    assert (finished / "notes.txt").read_text() == "mine"


def test_migrate_moves_as_many_units_as_it_is_told(build):
    """Runs go on from one another; nothing is replayed or captured again."""
    moved = []
    for how in ("3", "next", "0", "all"):
        ended = build(MODEL, "--session", "inline", "--json", "--migrate", how, "--resume")
        assert ended.code == 0
        document = strict(ended.out)
        moved.append(sum(unit["on_device"] for unit in document["units"]))
        assert len(document["steps"][-1]["boundary"]) == moved[-1]
    assert moved == [3, 4, 4, 8]


def test_isolated_moves_nothing(build):
    """Each unit is replayed alone; there is no step, and no bundle."""
    ended = build(MODEL, "--session", "inline", "--json", "--strategy", "isolated")
    assert ended.code == 0
    document = strict(ended.out)
    assert document["steps"] == []
    assert {unit["verdict"] for unit in document["units"]} == {"pass"}
    assert not any(unit["on_device"] for unit in document["units"])
    assert not (ended.folder / "bundle").exists()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--host-pipeline", "broken_pipelines:sum_mirror"], "source or host pipeline"),
        (["--inputs", "{inputs}"], "inputs"),
    ],
)
def test_another_run_is_not_continued(build, finished, tmp_path, arguments, what):
    """What is captured must be the same; what differs is named."""
    np.savez(tmp_path / "x.npz", x=X + 1)
    arguments = [argument.format(inputs=tmp_path / "x.npz") for argument in arguments]
    ended = build(MODEL, "--session", "inline", "--resume", *arguments, out=finished)
    assert ended.code == 2
    assert ended.err.splitlines()[-1] == (
        f"error: --resume {finished}: the run in this folder had another {what}. Give the same "
        "arguments as then, or start anew with --force"
    )


def test_a_damaged_result_is_written_again(build, finished):
    """It is the end of a run, not its state."""
    before = without_times(strict((finished / "result.json").read_text()))
    (finished / "result.json").write_text("{")
    ended = build(MODEL, "--session", "inline", "--resume", out=finished)
    assert ended.code == 0
    assert without_times(strict((finished / "result.json").read_text())) == before


def test_captures_cut_off_are_told(build, finished):
    """Cases are not carved from half a tensor; a fresh capture mends it."""
    segments = finished / "captures" / "segments"
    for segment in segments.glob("*.safetensors"):
        segment.write_bytes(segment.read_bytes()[: segment.stat().st_size // 2])
    # Another number of cases, so that the suite is carved again.
    arguments = [MODEL, "--session", "inline", "--resume", "--cases-per-unit", "2"]
    ended = build(*arguments, out=finished)
    assert ended.code == 3
    assert re.fullmatch(
        rf"error: Capture segment {segments}/\d+\.safetensors is damaged: expected \d+ bytes of "
        r"tensors, got \d+\. "
        r"Restore the file, or delete the store and capture again\.",
        ended.err.splitlines()[-1],
    )
    for path in sorted((finished / "captures").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (finished / "captures").rmdir()
    assert build(*arguments, out=finished).code == 0


class Interrupting(SilentReporter):
    """A reporter that presses Ctrl-C in a stage, as it begins or at a part of it."""

    def __init__(self, name, part=None):
        self._name = name
        self._part = part

    @contextmanager
    def stage(self, name):
        stage = SilentStage()
        if name == self._name:
            if self._part is None:
                raise KeyboardInterrupt
            stage.update = self._update
        yield stage

    def _update(self, done, total):
        if done == self._part:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "places",
    [[(stage, None) for stage in STAGES], [("source", 1), ("capture", 1), ("migrate", 3)]],
    ids=["at the start of each stage", "within a stage"],
)
def test_an_interrupted_run_resumes_to_the_same_result(finished, places):
    """Wherever it was interrupted, again and again."""
    options = {
        "session": "inline",
        "device_pipeline": "broken_pipelines:split_scale",
        "inputs": [],
        "resume": True,
    }
    whole = bring_up(MODEL, out=finished, **options)
    out = finished.with_name("interrupted")
    for place in places:
        with pytest.raises(KeyboardInterrupt):
            bring_up(MODEL, out=out, reporter=Interrupting(*place), **options)
        assert not (out / "result.json").exists()
    resumed = bring_up(MODEL, out=out, **options)
    assert without_times(resumed.document) == without_times(whole.document)
    assert resumed.culprits == ["split"]


def test_an_interrupt_ends_with_130(build, monkeypatch):
    """As the shell has it, without a traceback."""
    monkeypatch.setattr("relax_tapml.cli.progress.Progress", lambda: Interrupting("capture"))
    ended = build(MODEL, "--session", "inline")
    assert (ended.code, ended.err) == (130, "error: interrupted\n")


def without_times(document):
    """A document without what differs from run to run.

    A resumed migration sends the weights to its new session, so the bytes of a step differ, too.
    """
    varying = {
        "seconds",
        "peak_bytes",
        "estimate",
        "strategy_reason",
        "bytes_moved",
        "bytes_to_device",
        "captures",
        "call_s",
        "own_call_s",
    }

    def stripped(value):
        if isinstance(value, dict):
            return {key: stripped(one) for key, one in value.items() if key not in varying}
        return [stripped(one) for one in value] if isinstance(value, list) else value

    return stripped(document)


def test_relax_tapml_build_is_the_same_command(tmp_path, capsys):
    """Arguments, exit codes and messages."""
    for main_of in (main, lambda words: subcommands.main(["build", *words])):
        assert main_of(["missing.json", "--out", str(tmp_path / "out")]) == 2
        assert "model missing.json: no such file" in capsys.readouterr().err


def test_the_help_names_all_scenarios(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert [one.name for one in SCENARIOS if one.name not in text] == []
