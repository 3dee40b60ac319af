"""The emitted files, run by pytest in a fresh process from another folder."""

import os
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from edited_suite import widen

from relax_tapml.suite.pytest_file import render_skipped


@pytest.fixture
def run_pytest(tmp_path, models):
    """Run pytest from an empty folder, with no plugins but ours and those named."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(models)}

    def run(*args, plugins=("relax_tapml.testing.plugin",), **variables):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
        for plugin in plugins:
            command += ["-p", plugin]
        return subprocess.run(
            [*command, *map(str, args)],
            cwd=elsewhere,
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )

    return run


def _outcomes(stdout):
    return dict(re.findall(r"(test_\w+\.py::\S+) (PASSED|FAILED|SKIPPED|ERROR)", stdout))


def test_a_moved_suite_passes_where_it_was_recorded(suite, run_pytest):
    done = run_pytest(suite, "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _outcomes(done.stdout) == {
        "test_matmul.py::test_matmul[main-000-case0]": "PASSED",
        "test_matmul.py::test_matmul[main-000-case1]": "PASSED",
        "test_softmax.py::test_softmax[main-001-case0]": "PASSED",
        "test_softmax.py::test_softmax[main-001-case1]": "PASSED",
    }


def test_text_of_others_is_escaped(suite, run_pytest, tmp_path):
    """In the messages of failures and in the reasons of skips."""
    (tmp_path / "conftest.py").write_text(
        "from relax_tapml.testing.carved import CarvedSuites\n"
        "from relax_tapml.errors import StoreError\n"
        "def run(self, folder, unit, case):\n"
        "    raise StoreError('evil \\x1b[2J\\r\\u202e')\n"
        "CarvedSuites._run = run\n"
    )
    done = run_pytest(suite, f"--confcutdir={tmp_path}", "-p", "conftest", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "evil \\x1b[2J\\r\\u202e" in done.stdout
    assert not set(done.stdout) & set("\x1b\r\u202e")


def test_a_wrong_kernel_fails_its_unit_with_a_short_message(suite, run_pytest):
    options = [
        "--tapml-session",
        "inline",
        "--tapml-device-pipeline",
        "broken_pipelines:softmax_scale",
    ]
    done = run_pytest(suite, "-v", *options)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = {name for name, how in _outcomes(done.stdout).items() if how == "FAILED"}
    assert failed == {
        "test_softmax.py::test_softmax[main-001-case0]",
        "test_softmax.py::test_softmax[main-001-case1]",
    }
    text = done.stdout
    assert "softmax at main/001/softmax: mismatch" in text
    assert re.search(r"output 0: differs by up to \S+, \d+ of 32 values", text)
    assert re.search(r"at \[0, 0\]: expected \S+, got \S+, \d+ ULP apart\n", text)
    assert re.search(r"error [\d.e-]+, tolerance \d\.\de-\d\d: float64 evaluation with", text)
    assert re.search(r"caused by: \S+", text)
    file = suite / "test_softmax.py"
    assert f"rerun: pytest {file} -k main-001-case0 --tapml-session inline" in text
    assert "Traceback" not in done.stdout
    assert "carved.py" not in done.stdout


def test_a_blunt_case_is_not_green(suite, run_pytest):
    """It is skipped with the reason: of a unit with blunt cases alone no test passes."""
    widen(suite, "softmax")
    widen(suite, "matmul", kept=["main-000-case1"])
    done = run_pytest(suite, "-v", "-rs", "--tapml-session", "inline", "--junitxml", "j.xml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _outcomes(done.stdout) == {
        "test_matmul.py::test_matmul[main-000-case0]": "SKIPPED",
        "test_matmul.py::test_matmul[main-000-case1]": "PASSED",
        "test_softmax.py::test_softmax[main-001-case0]": "SKIPPED",
        "test_softmax.py::test_softmax[main-001-case1]": "SKIPPED",
    }
    text = " ".join(done.stdout.split())
    assert "zeros would pass, with a tolerance of" in text
    found = ElementTree.parse(suite.parents[1] / "elsewhere" / "j.xml").iter("property")
    powers = [one.get("value") for one in found if one.get("name") == "power of output 0"]
    assert [power.split(":")[0] for power in powers] == ["blunt", "sharp", "blunt", "blunt"]


def test_only_what_is_selected_is_built(suite, run_pytest):
    """The kernels go to the folder next to the suite, where there is one."""
    kernels = suite.parent / "kernels"
    kernels.mkdir()
    done = run_pytest(suite, "--tapml-session", "inline", "-k", "matmul")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [file.name.split("-")[0] for file in kernels.iterdir()] == ["matmul"]


def test_workers_of_xdist_share_the_work(suite, run_pytest):
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    plugins = ("relax_tapml.testing.plugin", "xdist")
    done = run_pytest(suite, "-n", "2", "--tapml-session", "inline", plugins=plugins)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_a_damaged_suite_fails_every_test_before_anything_runs(suite, run_pytest):
    module = suite / "units" / "matmul.json"
    module.write_text(module.read_text() + " ")
    done = run_pytest(suite)
    assert done.returncode == 1
    assert "4 failed" in done.stdout
    assert f"{module} was changed or cut short" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_wrong_option_is_told_in_one_line(suite, run_pytest):
    done = run_pytest(suite, "--tapml-target", "lvm", "-k", "matmul and case0")
    assert done.returncode == 1
    assert "target 'lvm' is not known to TVM" in done.stdout
    assert "Traceback" not in done.stdout


def test_what_was_not_carved_is_skipped_with_its_reason(suite, run_pytest):
    (suite / "test_not_carved.py").write_text(render_skipped({"attend": "it takes a cache"}))
    done = run_pytest(suite / "test_not_carved.py", "-rs")
    assert done.returncode == 0
    assert "1 skipped" in done.stdout
    assert "it takes a cache" in done.stdout


def test_the_plugin_leaves_other_projects_alone(tmp_path, run_pytest):
    """It imports nothing heavy, warns about nothing and prints nothing."""
    (tmp_path / "test_other.py").write_text(
        "import sys\n\n\ndef test_other():\n"
        "    heavy = {'tvm', 'tvm_ffi', 'numpy', 'relax_tapml.carve', 'relax_tapml.errors'}\n"
        "    assert not heavy & set(sys.modules)\n"
    )
    done = run_pytest(tmp_path / "test_other.py", "-W", "error", "--strict-markers", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tapml" not in done.stdout + done.stderr


def test_a_suite_runs_from_anywhere_after_it_was_moved(suite, run_pytest, tmp_path):
    (tmp_path / "moved again").mkdir()
    moved = shutil.move(suite, tmp_path / "moved again" / "suite")
    here = os.path.relpath(moved, tmp_path / "elsewhere")
    done = run_pytest(here, "-v", "-k", "softmax", "--tapml-session", "inline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(_outcomes(done.stdout)) == 2


def test_a_junit_file_says_what_came_out(suite, run_pytest, tmp_path):
    """Also for tests that ran in a worker, and for those that fail."""
    file = tmp_path / "junit.xml"
    options = [
        "--tapml-session",
        "inline",
        "--tapml-device-pipeline",
        "broken_pipelines:softmax_scale",
    ]
    plugins = ("relax_tapml.testing.plugin", "xdist")
    run_pytest(suite, "-n", "1", f"--junitxml={file}", *options, plugins=plugins)
    found = {
        case.get("name"): {item.get("name"): item.get("value") for item in case.iter("property")}
        for case in ElementTree.parse(file).iter("testcase")
    }
    assert len(found) == 4
    for name, properties in found.items():
        # What a tolerance sees is asked where a case passes.
        power = ["power of output 0"] if properties["verdict"] == "pass" else []
        numbers = ["error", "allowed", "origin", *power]
        assert list(properties) == ["unit", "site", "verdict", *numbers]
        unit = properties["unit"]
        assert name.startswith(f"test_{unit}[main-00")
        assert (
            properties["site"] == {"matmul": "main/000/matmul", "softmax": "main/001/softmax"}[unit]
        )
        is_wrong = unit == "softmax"
        assert properties["verdict"] == ("mismatch" if is_wrong else "pass")
        assert (float(properties["error"]) > float(properties["allowed"])) == is_wrong
        assert properties["origin"]


def test_slow_cases_can_be_left_out_under_strict_markers(suite, run_pytest):
    file = suite / "test_matmul.py"
    source = file.read_text()
    mark = 'pytest.param("main-000-case1", marks=pytest.mark.tapml_slow)'
    file.write_text(source.replace('"main-000-case1"', mark))
    assert file.read_text() != source
    options = ["--strict-markers", "-W", "error", "--tapml-session", "inline"]
    done = run_pytest(suite, "-v", "-m", "not tapml_slow", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(_outcomes(done.stdout)) == 3
    assert "1 deselected" in done.stdout


def test_workers_build_each_kernel_once(suite, run_pytest, tmp_path):
    """They share a folder, which is gone in the end; the second finds what the first built."""
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (suite / "conftest.py").write_text(COUNT_BUILDS)
    plugins = ("relax_tapml.testing.plugin", "xdist")
    options = ["-n", "2", "--dist", "each", "--tapml-session", "inline"]
    done = run_pytest(suite, *options, plugins=plugins, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout
    built = (temporary / "built.txt").read_text().splitlines()
    assert sorted(built) == ["0", "2"]
    assert not list(temporary.glob("tapml-*"))


COUNT_BUILDS = """
import os, pathlib
from relax_tapml.partition.kernel_library import KernelLibrary

build = KernelLibrary.build


def counted(self, *args):
    kernels = build(self, *args)
    with (pathlib.Path(os.environ["TMPDIR"]) / "built.txt").open("a") as file:
        file.write(f"{len(kernels.built)}\\n")
    return kernels


KernelLibrary.build = counted
"""
