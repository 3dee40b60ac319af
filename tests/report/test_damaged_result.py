"""A result document is refused when it is read, or can be reported."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from damaged_json import damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from relax_tapml.cli.present import present
from relax_tapml.cli.reproduced import find_record, recorded_lines
from relax_tapml.errors import StoreError
from relax_tapml.report.page import render
from relax_tapml.results.result_file import read_result


@settings(max_examples=120, derandomize=True)
@given(data=st.data())
def test_any_other_value_is_refused_when_it_is_read_or_can_be_reported(
    data: st.DataObject, document: dict[str, Any], finished: Path
) -> None:
    """The page, the terminal and a reproducer then meet no other error."""
    whole = json.loads((_copy_of_result(finished)).read_text(encoding="utf-8"))
    changed = data.draw(st.sampled_from([document, whole]).flatmap(damaged))
    (finished / "result.json").write_text(json.dumps(changed), encoding="utf-8")
    with contextlib.suppress(StoreError):
        read = read_result(finished)
        render(read, out=finished)
        for show_all in (False, True):
            present(read, out=finished, show_all=show_all, console=Console(file=io.StringIO()))
        record = find_record(finished)
        assert record is not None
        for unit in record.result.units:
            recorded_lines(unit, record.result.target)


def _copy_of_result(folder: Path) -> Path:
    """Return a file with the result as the run wrote it."""
    copy = folder / "result.json.orig"
    if not copy.exists():
        copy.write_bytes((folder / "result.json").read_bytes())
    return copy
