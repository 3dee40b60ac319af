"""Right kernels are accepted, cheats are refused, and what is held out stays hidden."""

import json

import pytest
import tvm

from relax_tapml import verify
from relax_tapml.cli import main as command
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceUnavailable, ExitCode, StoreError, UsageError
from relax_tapml.judge_kernel.callable_process import CallableProcess
from relax_tapml.judge_kernel.candidate_kernel import load_kernel

UNIT = "increment"


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """Where the kernels of all tests are kept."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def judge(suite, models, kernels, monkeypatch):
    """Judge a kernel, a name of one of the files or a PrimFunc, for the unit ``increment``."""
    monkeypatch.setenv("TAPML_TEST_SUITE", str(suite))
    (suite.parent / "kernels").symlink_to(kernels)
    usual = {"session": "inline", "is_timed": False, "held_out": 1}

    def judged(kernel, **options):
        if isinstance(kernel, str) and ":" in kernel:
            kernel = f"{models / kernel}"
        return verify(suite, UNIT, kernel, **{**usual, **options})

    return judged


@pytest.fixture(scope="session")
def script_kernels(models):
    """The PrimFuncs of the script, by name, read once."""
    import candidate_script

    modules = (candidate_script.Right, candidate_script.Wrong)
    return {g.name_hint: f for module in modules for g, f in module.functions.items()}


def test_a_right_callable_of_torch_passes(judge, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("RELAX_TAPML_TEST_TORCH", "1")
    assert judge("candidate_torch.py:increment").verdict is Verdict.PASS


def test_a_machine_without_the_device_is_not_blamed_on_the_kernel(models, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("RELAX_TAPML_TEST_TORCH", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    kernel = load_kernel(models / "candidate_torch.py:increment").code
    with pytest.raises(DeviceUnavailable, match="target cuda"):
        CallableProcess(kernel, tvm.target.Target("cuda"), timeout_s=60, seed=0)


def test_a_right_kernel_passes_from_a_script_a_file_and_python(
    judge, models, script_kernels, tmp_path
):
    """All three are the same PrimFunc, which is scheduled otherwise than the unit's own."""
    kernel = script_kernels["increment"]
    path = tmp_path / "kernel.json"
    path.write_text(tvm.ir.save_json(tvm.IRModule({"increment": kernel})))
    of_script = load_kernel(models / "candidate_script.py:Right").code
    of_file = load_kernel(path).code
    for code in (of_script, of_file):
        bare = [one.without_attr("global_symbol") for one in (code, kernel)]
        tvm.ir.assert_structural_equal(*bare)
    report = judge(of_file)
    assert report.verdict is Verdict.PASS
    assert report.deterministic


@pytest.mark.parametrize(
    ("cheat", "sign"),
    [
        ("zeros", "differs"),
        ("copy", "differs"),
        ("oracle_file", "held-out"),
        ("first_call", "differs"),
        ("recorded_shapes", "held-out"),
        ("race", ""),
        ("unwritten", "never written"),
        ("mutated", "differs"),
        ("writes_input", "its input 0"),
        ("overruns", "outside of its tensors"),
        ("wide", "float64"),
        ("returns_input", "differs"),
        ("infinite", "infinit"),
        ("transposed", "float32[4, "),
        ("forks", "never written"),
        ("patches", "differs"),
    ],
)
def test_a_cheat_is_refused(judge, cheat, sign):
    report = judge(f"candidate_callables.py:{cheat}")
    assert report.verdict.is_wrong
    assert report.exit_code is ExitCode.MISMATCH
    assert sign in report.reason
    assert report.speed is None
    if sign == "held-out":
        assert all(case.verdict is Verdict.PASS for case in report.cases)
        assert (report.held_out.passed, report.first) == (False, None)
    elif sign == "differs":
        assert report.first.expected != report.first.actual


def test_a_callable_that_hangs_is_ended(judge):
    report = judge("candidate_callables.py:hangs", timeout_s=1)
    assert report.verdict is Verdict.TIMEOUT
    assert report.held_out.passed is not True


@pytest.mark.parametrize("cheat", ["only_over_nan", "candidate_callables.py:lazy_after_the_check"])
def test_a_kernel_that_does_less_when_it_is_timed_is_wrong(judge, script_kernels, cheat):
    """It passes all cases."""
    report = judge(script_kernels.get(cheat, cheat), is_timed=True)
    assert report.held_out.passed
    assert all(case.verdict is Verdict.PASS for case in report.cases)
    assert (report.verdict, report.speed) == (Verdict.MISMATCH, None)
    assert "timed" in report.reason


@pytest.mark.parametrize("name", ["by_content", "lies_about_time"])
def test_what_is_kept_or_said_by_a_callable_does_not_make_it_fast(judge, name):
    report = judge(f"candidate_callables.py:{name}", is_timed=True, repeat=1)
    assert report.verdict is Verdict.PASS
    assert report.speed.seconds > 0.02


def test_a_right_callable_passes_whatever_the_layout_of_its_result(judge):
    assert judge("candidate_callables.py:as_strided_output").verdict is Verdict.PASS


def test_a_callable_that_ends_its_process_crashes(judge):
    report = judge("candidate_callables.py:crashes")
    assert report.verdict.is_wrong
    assert report.held_out.passed is not True


@pytest.mark.parametrize("cheat", ["mutated", "recorded_shapes", "unwritten"])
def test_a_wrong_primfunc_is_refused(judge, script_kernels, cheat):
    report = judge(script_kernels[cheat])
    assert report.verdict is Verdict.MISMATCH
    assert ("held-out" in report.reason) == (cheat == "recorded_shapes")


def test_another_interface_is_refused_with_both(judge, script_kernels):
    """Before anything runs."""
    with pytest.raises(UsageError, match=r"(?s)expected \(.*s0, 4\].*got +\(float32\[3, 4\]"):
        judge(script_kernels["static"])
    with pytest.raises(UsageError, match=r"(?s)expected \(.*float32.*got +\(x, y, z\)"):
        judge("candidate_callables.py:takes_three")


def test_what_is_no_kernel_is_refused(judge, tmp_path, models):
    for text in ("missing.py", "missing.so:name"):
        with pytest.raises(UsageError, match="there is no file"):
            judge(text)
    library = tmp_path / "kernel.obj"
    library.touch()
    with pytest.raises(UsageError, match="TVMScript"):
        judge(str(library))
    with pytest.raises(UsageError, match="no_such_name"):
        judge("candidate_callables.py:no_such_name")


def test_a_primfunc_that_calls_outside_needs_trust(judge, script_kernels, tmp_path):
    path = tmp_path / "kernel.json"
    path.write_text(tvm.ir.save_json(tvm.IRModule({"k": script_kernels["reaching_outside"]})))
    with pytest.raises(StoreError, match="getpid"):
        judge(str(path))
    assert judge(str(path), trust=True).verdict is Verdict.PASS


def test_a_unit_of_which_nothing_can_be_held_out_is_inconclusive(suite, tmp_path):
    """A kernel that was fitted to the files would pass, too."""
    path = tmp_path / "kernel.py"
    path.write_text("import numpy as np\ndef cumsum(x):\n    return np.cumsum(x, axis=1)\n")
    report = verify(suite, "cumsum", path, session="inline", is_timed=False)
    assert all(case.verdict is Verdict.PASS for case in report.cases)
    assert (report.verdict, report.exit_code) == ("inconclusive", ExitCode.INCONCLUSIVE)
    assert report.held_out.count == 0
    assert "held out" in report.reason


def test_scalars_and_several_outputs_are_given_in_the_order_of_the_kernel(suite, tmp_path):
    path = tmp_path / "kernel.py"
    path.write_text("def both(x, k):\n    return x + x.dtype.type(k), x - x.dtype.type(k)\n")
    report = verify(suite, "add_and_subtract", path, session="inline", is_timed=False)
    assert report.verdict is Verdict.PASS


def test_the_command_times_what_passes_and_shows_nothing_that_is_held_out(
    suite, kernels, models, capsys
):
    (suite.parent / "kernels").symlink_to(kernels)
    kernel = str(models / "candidate_callables.py:writing")
    line = ["verify", str(suite), UNIT, "--kernel", kernel, "--target", "llvm"]
    line += ["--session", "inline"]
    assert command.main([*line, "--json"]) == 0
    printed = capsys.readouterr().out
    report = json.loads(printed)
    assert (report["verdict"], report["reason"], report["deterministic"]) == ("pass", "", True)
    assert [case["verdict"] for case in report["cases"]] == ["pass"] * 3
    assert len(report["power"]) == 3
    assert not any(one["blunt"] for one in report["power"])
    held_out = report["held_out"]
    assert held_out.keys() == {"count", "boundary", "passed", "reasons"}
    assert held_out["passed"]
    assert held_out["count"] == 8 + held_out["boundary"]
    assert held_out["boundary"] >= 2
    assert "held-out" not in printed
    assert report["speed"]["ratio"] > 0
    assert report["speed"]["bytes"] == 2 * 5 * 4 * 4
    wrong = [text.replace(":writing", ":mutated") for text in line]
    assert command.main([*wrong, "--held-out", "1"]) == 1
    shown = capsys.readouterr().out
    assert "expected" in shown
    assert max(map(len, shown.replace(str(models), "").splitlines())) <= 80
