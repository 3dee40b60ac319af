"""A comparison of two builds as JUnit XML, which CI systems show test by test."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import UsageError
from relax_tapml.files.replace import write_file
from relax_tapml.printable import printable
from relax_tapml.report.changes import change_text
from relax_tapml.results.build_comparison import BuildComparison, Change, UnitChange

_NAME = "relax-tapml compare-builds"
_KINDS = ("failure", "error", "skipped")
_PLURALS = {"failure": "failures", "error": "errors", "skipped": "skipped"}


def write_junit(comparison: BuildComparison, path: Path) -> None:
    """Write a test case for each unit: a regression fails, what is open is an error.

    A unit that no build could judge, such as one that was not carved, is skipped. A build that
    could not be replayed is an error of its own.

    Raises
    ------
    UsageError
        The file cannot be written.
    """
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", name=_NAME)
    properties = ElementTree.SubElement(suite, "properties")
    for build in comparison.builds:
        values = {
            "target": build.target,
            "session": build.session,
            "interpreter": build.python,
            **build.versions,
        }
        for key, value in values.items():
            ElementTree.SubElement(
                properties,
                "property",
                name=printable(f"{build.name}.{key}"),
                value=printable(value),
            )
    counts = dict.fromkeys(_KINDS, 0)
    for build in comparison.builds:
        if build.reason:
            _case(suite, comparison, f"build {build.name}", "error", build.reason, counts)
    for unit in comparison.units:
        kind, text = _ended(unit, comparison)
        _case(suite, comparison, unit.name, kind, text, counts)
    totals = {"tests": len(suite.findall("testcase"))}
    totals.update({_PLURALS[kind]: count for kind, count in counts.items()})
    for element in (root, suite):
        for name, count in totals.items():
            if element is suite or name != "skipped":
                element.set(name, str(count))
    ElementTree.indent(root)
    try:
        write_file(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
    except OSError as error:
        raise UsageError(f"--junit {path}: it cannot be written: {error.strerror}") from error


def _case(
    suite: ElementTree.Element,
    comparison: BuildComparison,
    name: str,
    kind: str,
    text: str,
    counts: dict[str, int],
) -> None:
    # The class is what CI systems group tests by.
    case = ElementTree.SubElement(
        suite, "testcase", classname=printable(comparison.suite), name=printable(name)
    )
    if not kind:
        return
    counts[kind] += 1
    line = printable(text.partition("\n")[0])
    entry = ElementTree.SubElement(case, kind, message=line)
    if kind != "skipped":
        entry.set("type", kind if kind == "error" else "regression")
        entry.text = printable(text)


def _ended(unit: UnitChange, comparison: BuildComparison) -> tuple[str, str]:
    """Return the element of a unit's test case, empty for a pass, and its text."""
    if unit.is_regression:
        return "failure", change_text(unit, comparison)
    if unit.change is Change.OPEN:
        return "error", change_text(unit, comparison)
    second = unit.units[1]
    if second is not None and second.verdict in (Verdict.SKIPPED, Verdict.INCONCLUSIVE):
        return "skipped", second.reason
    return "", ""
