"""Suites that somebody has edited, with a right checksum of the manifest."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relax_tapml.suite.manifest import MANIFEST
from relax_tapml.suite.manifest_file import seal

ORIGIN = "widened by hand"


@contextmanager
def edited(suite: Path) -> Iterator[dict[str, Any]]:
    """Change the manifest of a suite as a document."""
    path = suite / MANIFEST
    document = json.loads(path.read_bytes())
    yield document
    path.write_bytes(seal(document))


def widen(
    suite: Path, unit: str, *, atol: float = 1e4, output: int = 0, kept: Collection[str] = ()
) -> None:
    """Let an output of a unit be off by ``atol``, which sees nothing, in all cases but ``kept``."""
    with edited(suite) as document:
        for case in document["units"][unit]["cases"]:
            if case["name"] not in kept:
                case["outputs"][output]["tolerance"] = {
                    **dict.fromkeys(case["outputs"][output]["tolerance"]),
                    "kind": "rule",
                    "origin": ORIGIN,
                    "atol": atol,
                    "rtol": 0.0,
                }
