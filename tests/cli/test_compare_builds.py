"""``relax-tapml compare-builds``, with processes of two builds."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from relax_tapml.cli.main import main

GELU, SUM = "fused_gelu", "sum"
UNITS = ["--unit", GELU, "--unit", SUM]
PIPELINE = """
import os
import broken_pipelines
import tvm
pipeline = (
    broken_pipelines.fused_gelu_scale
    if os.environ.get("BREAK")
    else tvm.transform.Sequential([])
)
"""


def test_an_option_that_breaks_a_unit_is_a_regression(finished, tmp_path, capsys):
    """The environment of each build is its own; JUnit XML has a failure that names the unit.

    What the option does not change is equal to the bit, and is timed.
    """
    file, junit = tmp_path / "options.py", tmp_path / "junit.xml"
    file.write_text(PIPELINE)
    on = f"target=llvm,session=inline,pipeline={file}:pipeline"
    command = ["compare-builds", str(finished), *UNITS, "--junit", str(junit)]
    assert main([*command, "--on", on, "--on", f"{on},env:BREAK=1", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [(unit["name"], unit["change"]) for unit in document["units"]] == [
        (GELU, "broken"),
        (SUM, "unchanged"),
    ]
    gelu, same = document["units"]
    assert gelu["units"][0]["share"] <= 1 < gelu["units"][1]["share"]
    assert same["units"][0] == same["units"][1]
    assert same["speed"]["rounds"] >= 15
    assert min(same["speed"]["seconds"]) > 0
    assert [build["environment"] for build in document["builds"]] == [{}, {"BREAK": "1"}]
    root = ElementTree.parse(junit).getroot()
    [suite] = root
    assert {key: suite.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "2",
        "failures": "1",
        "errors": "0",
    }
    [failed] = [case for case in suite.iter("testcase") if case.find("failure") is not None]
    assert failed.get("name") == GELU
    assert "mismatch" in failed.find("failure").text


def test_another_interpreter_that_mends_a_unit_is_none(finished, capsys):
    """It is another process with packages of its own; what runs in both is timed."""
    broken = "target=llvm,session=inline,name=old,pipeline=broken_pipelines:fused_gelu_scale"
    mended = f'target={{"kind":"llvm","opt-level":1}},session=inline,python={sys.executable}'
    command = ["compare-builds", str(finished), *UNITS]
    assert main([*command, "--on", broken, "--on", f"{mended},name=new"]) == 0
    out = capsys.readouterr().out
    assert f"python {sys.version.split()[0]} {sys.executable}" in out
    assert "0 regressions, 1 fixed" in out
    [row] = [line for line in out.splitlines() if line.startswith(GELU) and "->" in line]
    assert row.split()[1].startswith("fixed")
    assert "mismatch -> pass" in row


def test_builds_that_cannot_be_replayed_are_inconclusive(finished, tmp_path, capsys):
    """A session that cannot be reached, and a process that ends: no unit is blamed."""
    lost = "target=llvm,session=tracker:127.0.0.1:1:board,name=lost"
    ends = "target=llvm,session=inline,name=ends,pipeline=broken_pipelines:fused_gelu_abort"
    junit = tmp_path / "junit.xml"
    command = ["compare-builds", str(finished), "--unit", GELU, "--junit", str(junit)]
    assert main([*command, "--on", lost, "--on", ends]) == 3
    out = capsys.readouterr().out
    assert "lost was not replayed: cannot use the tracker at 127.0.0.1:1" in out
    assert "ends was not replayed: its process was terminated by SIGABRT" in out
    errors = [case.get("name") for case in ElementTree.parse(junit).iter("testcase")]
    assert errors == ["build lost", "build ends"]


def test_an_interpreter_without_tvm_is_inconclusive(finished, tmp_path, capsys):
    """So is one that is no Python, or has another relax_tapml; each names the fix."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    bare = tmp_path / "bare" / "bin" / "python"
    command = ["compare-builds", str(finished), "--unit", SUM, "--no-speed"]
    on = [f"target=llvm,python={bare},name=bare", "target=llvm,python=no/such/python,name=none"]
    assert main([*command, "--on", on[0], "--on", on[1]]) == 3
    out = capsys.readouterr().out
    assert f"bare was not replayed: {bare} has no tvm: install apache-tvm there" in out
    assert "none was not replayed: python=no/such/python is no program here" in out
    [packages] = (tmp_path / "bare").glob("lib/python*/site-packages")
    for name in ("tvm", "tvm_ffi", "numpy", "relax_tapml"):
        (packages / name).mkdir()
        (packages / name / "__init__.py").touch()
    assert main([*command, "--on", on[0], "--on", on[1]]) == 3
    assert f"bare was not replayed: {bare} has another relax_tapml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected --on twice, got it 0 times"),
        (["--on", "target=llvm"], "expected --on twice, got it 1 times"),
        (["--on", "llvm", "--on", "target=llvm"], "--on llvm: 'llvm' has no key"),
        (
            ["--on", "target=llvm", "--on", "target=llvm", "--fail-slower", "--no-speed"],
            "leave out --no-speed",
        ),
    ],
)
def test_wrong_usage_is_told_with_the_fix(finished, options, message, capsys):
    assert main(["compare-builds", str(finished), *options]) == 2
    assert message in capsys.readouterr().err


def test_what_a_build_does_not_know_is_usage(finished, capsys):
    """The message names the build."""
    on = ["--on", "target=llvm,session=inline", "--on", "target=llvm,session=nowhere,name=new"]
    assert main(["compare-builds", str(finished), *on]) == 2
    assert "new: session 'nowhere' of target llvm: expected " in capsys.readouterr().err
