"""A comparison as JUnit XML."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import ExitCode, UsageError
from relax_tapml.report.junit import write_junit
from relax_tapml.results.build_comparison import (
    BuildComparison,
    BuildResult,
    BuiltUnit,
    Change,
    UnitChange,
)

PASSED = BuiltUnit(verdict=Verdict.PASS)


def comparison(*units, **second):
    build = BuildResult(name="A", target="llvm", session="process", python="p")
    return BuildComparison(
        suite="dist/tests",
        builds=(build, replace(build, name="B", **second)),
        threshold=0.1,
        is_slower_regression=False,
        units=units,
        exit_code=ExitCode.PASS,
    )


def change(name, kind, second, *, is_regression=False):
    return UnitChange(name=name, units=(PASSED, second), change=kind, is_regression=is_regression)


def written(found, folder):
    write_junit(found, folder / "junit.xml")
    return ElementTree.parse(folder / "junit.xml").getroot()


def test_each_unit_is_a_test_case_that_ends_as_it_changed(tmp_path):
    skipped = BuiltUnit(verdict=Verdict.SKIPPED, reason="not carved")
    root = written(
        comparison(
            change("same", Change.UNCHANGED, PASSED),
            change("worse", Change.BROKEN, None, is_regression=True),
            change("open", Change.OPEN, skipped),
            change("skipped", Change.UNCHANGED, skipped),
            reason="gone",
        ),
        tmp_path,
    )
    ends = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert ends == {
        "build B": ["error"],
        "same": [],
        "worse": ["failure"],
        "open": ["error"],
        "skipped": ["skipped"],
    }
    [suite] = root
    counts = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "1", "errors": "2", "skipped": "1"}
    assert {case.get("classname") for case in root.iter("testcase")} == {"dist/tests"}


def test_what_xml_cannot_hold_is_escaped(tmp_path):
    """Reasons hold the output of compilers, and names come from files."""
    bad = BuiltUnit(verdict=Verdict.CRASH, reason="<\x1b[31m & \x00 \ud800 \uffff ]]>")
    root = written(comparison(change('a"<\x07', Change.BROKEN, bad, is_regression=True)), tmp_path)
    [case] = root.iter("testcase")
    assert case.get("name") == 'a"<\\x07'
    assert "<\\x1b[31m & \\x00 \\ud800 \\uffff ]]>" in case.find("failure").text


def test_a_file_that_cannot_be_written_is_usage(tmp_path):
    with pytest.raises(UsageError, match="cannot be written"):
        write_junit(comparison(), tmp_path / "no" / "folder.xml")
