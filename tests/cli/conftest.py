from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def result() -> dict[str, Any]:
    """A finished run of MiniLM on cuda: 26 units, one mismatch."""
    text = Path(__file__).parents[1].joinpath("report", "minilm.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document
