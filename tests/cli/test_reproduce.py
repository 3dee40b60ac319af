"""``relax-tapml reproduce``."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace

import broken_pipelines
import pytest
import tiny_model

from relax_tapml import bring_up
from relax_tapml.cli.main import main
from relax_tapml.suite.script_run import ScriptEnd, ScriptRun, run_script


def _lines(capsys):
    return capsys.readouterr().out.splitlines()


@pytest.fixture(scope="module")
def wrong(_finished, tmp_path_factory):
    """A function that runs the small model with a pipeline of ``broken_pipelines``."""
    made = {}

    def run(name, session="inline"):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("wrong") / "run"
            shutil.copytree(_finished, made[name])
            bring_up(
                tiny_model.model(),
                session=session,
                out=made[name],
                resume=True,
                repair=False,
                device_pipeline=getattr(broken_pipelines, name),
            )
        return made[name]

    return run


def test_the_kernel_that_failed_is_what_is_written(wrong, tmp_path, capsys):
    """Not the source's: it fails when it is run, and its generated source lies beside it."""
    out = wrong("fused_gelu_scale")
    assert main(["reproduce", str(out), "fused_gelu", "--output", str(tmp_path)]) == 0
    lines = _lines(capsys)
    script = tmp_path / "fused_gelu.py"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fused_gelu.ll",
        "fused_gelu.py",
        "fused_gelu.safetensors",
    ]
    assert "1.00999" in script.read_text() or "1.01" in script.read_text()
    assert "define" in (tmp_path / "fused_gelu.ll").read_text()
    (recorded,) = [line for line in lines if line.startswith("recorded: mismatch on llvm: differs")]
    tried = next(n for n, line in enumerate(lines) if "the failure repeats" in line)
    assert tried < next(n for n, line in enumerate(lines) if line.startswith("written: "))
    assert lines[-1] == f"run: python {script}"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 1
    assert recorded in done.stdout.splitlines()
    assert "target {" in done.stdout


def test_the_suite_of_a_run_is_as_good_as_its_folder(wrong, tmp_path, capsys):
    """DIR/tests belongs to the run whose folder it is in."""
    out = wrong("fused_gelu_scale")
    assert main(["reproduce", str(out / "tests"), "fused_gelu", "--output", str(tmp_path)]) == 0
    assert any("the failure repeats" in line for line in _lines(capsys))


@pytest.mark.parametrize(
    ("unit", "fault", "session", "code", "messages"),
    [
        # Nothing but the script's process ends.
        ("softmax", "abort", "process", 0, ["SIGABRT.*the failure repeats"]),
        # The script raises what the build did.
        ("softmax", "unbuildable", "inline", 0, ["failure repeats", "^no generated source: soft"]),
        # What only the guards of a replay see.
        ("fused_gelu", "overrun", "inline", 3, ["failure does NOT repeat here", "^written: "]),
    ],
)
def test_how_the_script_ended_is_printed(
    unit, fault, session, code, messages, wrong, tmp_path, capsys
):
    """Where the failure does not repeat the files are written, and the exit code is 3."""
    out = wrong(f"{unit}_{fault}", session)
    assert main(["reproduce", str(out), unit, "--output", str(tmp_path)]) == code
    lines = _lines(capsys)
    for message in messages:
        assert any(re.search(message, line) for line in lines), lines


def test_what_fails_in_context_only_is_stated(wrong_together, tmp_path, capsys):
    """The script holds the kernel; alone it passes, as in the run."""
    command = ["reproduce", str(wrong_together), "layer_norm", "--output", str(tmp_path)]
    assert main(command) == 0
    assert any("only together with softmax; alone it passes" in line for line in _lines(capsys))
    assert "getenv" in (tmp_path / "layer_norm.py").read_text()


def test_a_unit_that_passed_agrees(wrong, tmp_path, capsys):
    """And the script prints that it passed."""
    out = wrong("fused_gelu_scale")
    assert main(["reproduce", str(out), "matmul", "--output", str(tmp_path)]) == 0
    lines = _lines(capsys)
    assert "recorded: pass on llvm" in lines
    assert "run once for llvm: its outputs agree: as in the run, which it passed" in lines


def test_a_suite_alone_takes_a_pipeline(finished, tmp_path, capsys):
    """There is no run that recorded something."""
    suite = shutil.copytree(finished / "tests", tmp_path / "suite")
    options = ["--target", "llvm", "--device-pipeline", "broken_pipelines:fused_gelu_scale"]
    folder = tmp_path / "report"
    command = ["reproduce", str(suite), "fused_gelu", "--output", str(folder)]
    assert main([*command, *options]) == 0
    lines = _lines(capsys)
    assert "run once for llvm: its outputs differ" in lines
    assert not any(line.startswith("recorded") for line in lines)


def test_a_target_that_is_not_at_hand_is_not_run(finished, tmp_path, capsys):
    """The script holds the kernel with the target's schedule, and its source in OpenCL C."""
    command = ["reproduce", str(finished), "softmax", "--output", str(tmp_path)]
    assert main([*command, "--target", "opencl"]) == 0
    lines = _lines(capsys)
    assert any(line.startswith("not run: opencl needs a device with an OpenCL") for line in lines)
    assert "threadIdx.x" in (tmp_path / "softmax.py").read_text()
    assert "__kernel void softmax" in (tmp_path / "softmax.cl").read_text()


def test_what_a_script_prints_before_it_runs_the_unit_is_not_what_happened():
    """A crash has no last words."""
    text = "TVM 0.27, NumPy 2\ntarget llvm\noracle from llvm\nrecorded: crash on llvm"
    done = ScriptRun(end=ScriptEnd.CRASHED, reason="it was terminated by SIGABRT", text=text)
    assert done.last_line == ""
    assert replace(done, text=f"{text}\nfree(): invalid pointer").last_line.startswith("free()")


def test_a_script_that_does_not_end_is_ended(tmp_path):
    """With everything that it has started."""
    script = tmp_path / "slow.py"
    script.write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    done = run_script(script, timeout_s=3)
    assert (done.end, done.last_line) == (ScriptEnd.TIMEOUT, "begun")


def _first_unit(finished):
    from relax_tapml.suite.open_suite import open_suite

    return next(iter(open_suite(finished).manifest.units))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["no_such_unit"], "'no_such_unit'"),
        (["UNIT", "--case", "x"], "has no case 'x'; it has main-"),
        (["UNIT"], "exists. Choose another folder or pass --force."),
        (["pass:Swap"], "pass:Swap is a pass of the device's pipeline"),
    ],
)
def test_wrong_usage_is_refused(finished, tmp_path, capsys, options, message):
    unit = _first_unit(finished)
    (tmp_path / f"{unit}.py").write_text("mine")
    named = [unit if option == "UNIT" else option for option in options]
    assert main(["reproduce", str(finished), *named, "--output", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / f"{unit}.py").read_text() == "mine"


def test_a_folder_without_a_suite_is_refused(tmp_path, capsys):
    assert main(["reproduce", str(tmp_path), "add"]) == 3
    assert "is not a suite" in capsys.readouterr().err
