"""The readable half of a suite: pytest files that print a unit and replay its cases."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from relax_tapml.suite._source_text import comments, one_line, quoted
from relax_tapml.suite.manifest import MANIFEST, SuiteCase
from relax_tapml.suite.manifest_file import read_manifest

CONFIG_NAME = "pytest.ini"
CONFIG = "[pytest]\naddopts = --import-mode=importlib\n"
SKIPPED_NAME = "test_not_carved.py"
"""Lists the units without a case, so that pytest reports them as skipped."""

MAX_STEM = 120


class FileStems:
    """Gives each unit a name of its own that is an identifier and a file name."""

    def __init__(self) -> None:
        self._taken = {"not_carved"}

    def stem(self, unit: str) -> str:
        """Return the next unit's name."""
        base = identifier(unit)[:MAX_STEM]
        stem, count = base, 1
        # Some file systems take upper and lower case for the same.
        while stem.lower() in self._taken:
            count += 1
            stem = f"{base}_{count}"
        self._taken.add(stem.lower())
        return stem


def pytest_paths(suite: Path, units: Iterable[str]) -> list[Path]:
    """Return the pytest files of some units of a suite, in order: what to pass to ``pytest``.

    A test is not called as its unit is: ``vm.builtin.reshape`` has ``test_vm_builtin_reshape``.

    Parameters
    ----------
    suite
        Folder of the suite.
    units
        Their names. Units that the suite has no case of are left out.

    Raises
    ------
    StoreError
        There is no suite, or its manifest is damaged.
    """
    known = read_manifest(suite / MANIFEST).units
    return [suite / known[unit].test for unit in units if unit in known]


def identifier(text: str) -> str:
    """Return ``text`` with everything that an identifier cannot hold replaced by ``_``."""
    return re.sub(r"[^0-9A-Za-z_]", "_", text)


def render_unit(
    stem: str,
    unit: str,
    cases: Sequence[SuiteCase],
    *,
    script: str,
    slow: Collection[str] = (),
) -> str:
    """Return the pytest file of a unit.

    Parameters
    ----------
    stem
        From ``FileStems``; the test is called ``test_STEM``.
    unit
        Its name, as in the manifest.
    cases
        At least one.
    script
        The unit's module as TVMScript, written as comments and never run.
    slow
        Names of the cases that get the mark ``tapml_slow``.
    """
    params = "".join(
        f"    {_param(case.name, case.name in slow)},{_comment(case.reason)}\n" for case in cases
    )
    return (
        '"""One unit, carved from a trusted run: replayed on a device and compared."""\n\n'
        f"import pytest\n\n{comments(script.splitlines())}\n"
        f'CASES = [\n{params}]\n\n\n@pytest.mark.parametrize("case", CASES)\n'
        f"def test_{stem}(tapml, case):\n"
        f"    tapml.replay(__file__, unit={quoted(unit)}, case=case)\n"
    )


def render_skipped(skipped: Mapping[str, str]) -> str:
    """Return the pytest file of everything that has no case."""
    params = "".join(f"    {quoted(name)}: {quoted(reason)},\n" for name, reason in skipped.items())
    return (
        '"""What could not be carved, and why."""\n\n'
        f"import pytest\n\nREASONS = {{\n{params}}}\n\n\n"
        '@pytest.mark.parametrize("name", REASONS)\n'
        "def test_not_carved(name):\n"
        "    pytest.skip(REASONS[name])\n"
    )


def _param(name: str, is_slow: bool) -> str:
    if not is_slow:
        return quoted(name)
    return f"pytest.param({quoted(name)}, marks=pytest.mark.tapml_slow)"


def _comment(text: str) -> str:
    return f"  # {one_line(text)}" if text else ""
