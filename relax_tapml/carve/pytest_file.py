"""The readable half of a suite: pytest files that show a unit and replay its cases."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from relax_tapml.carve.manifest import SuiteCase

CONFIG_NAME = "pytest.ini"
CONFIG = "[pytest]\naddopts = --import-mode=importlib\n"
SKIPPED_NAME = "test_not_carved.py"
"""Lists the units without a case, so that they show up as skipped."""

_MAX_STEM = 120


class FileStems:
    """Gives each unit a name that is an identifier and a file name, no two alike."""

    def __init__(self) -> None:
        self._taken = {"not_carved"}

    def stem(self, unit: str) -> str:
        """Return the next unit's name."""
        base = identifier(unit)[:_MAX_STEM]
        stem, count = base, 1
        # Some file systems do not tell upper from lower case.
        while stem.lower() in self._taken:
            count += 1
            stem = f"{base}_{count}"
        self._taken.add(stem.lower())
        return stem


def identifier(text: str) -> str:
    """Return ``text`` with everything that an identifier cannot hold replaced by ``_``."""
    return re.sub(r"[^0-9A-Za-z_]", "_", text)


def render_unit(stem: str, unit: str, cases: Sequence[SuiteCase], *, script: str) -> str:
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
        The unit's module as TVMScript, shown in comments and never run.
    """
    params = "".join(f"    {_quoted(case.name)},{_comment(case.reason)}\n" for case in cases)
    return (
        '"""One unit, carved from a trusted run: replayed on a device and compared."""\n\n'
        f"import pytest\n\n{_comments(script.splitlines())}\n"
        f'CASES = [\n{params}]\n\n\n@pytest.mark.parametrize("case", CASES)\n'
        f"def test_{stem}(tapml, case):\n"
        f"    tapml.replay(__file__, unit={_quoted(unit)}, case=case)\n"
    )


def render_skipped(skipped: Mapping[str, str]) -> str:
    """Return the pytest file of everything that has no case."""
    params = "".join(
        f"    {_quoted(name)}: {_quoted(reason)},\n" for name, reason in skipped.items()
    )
    return (
        '"""What could not be carved, and why."""\n\n'
        f"import pytest\n\nREASONS = {{\n{params}}}\n\n\n"
        '@pytest.mark.parametrize("name", REASONS)\n'
        "def test_not_carved(name):\n"
        "    pytest.skip(REASONS[name])\n"
    )


def _quoted(text: str) -> str:
    # A JSON string is a Python string too.
    return json.dumps(text)


def _comment(text: str) -> str:
    return f"  # {_line(text)}" if text else ""


def _comments(lines: Iterable[str]) -> str:
    return "".join(f"# {_line(line)}".rstrip() + "\n" for line in lines)


def _line(text: str) -> str:
    # A control character in a name must not end the comment.
    return text if text.isprintable() else ascii(text)
