"""A run of ``paged_llm`` with right kernels, and what goes on from it with others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paged_llm
import pytest

from relax_tapml import bring_up
from relax_tapml.results.result_file import read_result


def run(model: Any, out: Path, **options: Any) -> Any:
    """Bring a model up, by halves and without probes."""
    given = {
        "session": "inline",
        "strategy": "bisect",
        "is_probed": False,
        "repair": False,
        **options,
    }
    return bring_up(model, out=out, **given)


@pytest.fixture(scope="session")
def paged() -> Any:
    """Prompts of two lengths, prefilled in two parts, then decoded."""
    return paged_llm.model()


@pytest.fixture(scope="module")
def clean_paged(
    paged: Any, made_once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """The result of a run of it, in a folder in which tests of a module may go on."""
    made = made_once("paged", lambda out: run(paged, out))
    return read_result(shutil.copytree(made, tmp_path_factory.mktemp("paged") / "run"))
