from __future__ import annotations

from pathlib import Path

import pytest

from relax_tapml.errors import StoreError, UsageError
from relax_tapml.results.result_file import read_result


def test_a_folder_that_is_no_output_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected the output folder of a build.*--out"):
        read_result(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is damaged: Expecting"), ("[]", "schema 1, got None"), ('{"schema": 2}', "got 2")],
)
def test_a_document_not_understood_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "result.json").write_text(text, encoding="utf-8")
    with pytest.raises(StoreError, match=message):
        read_result(tmp_path)
