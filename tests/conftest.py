"""What the tests of the whole job share: the models and pipelines of ``tests/models``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

MODELS = Path(__file__).parent / "models"
# Named on command lines as people name their own: MODULE:ATTR, with MODULE importable.
sys.path.insert(0, str(MODELS))


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of ``tiny_model`` and ``broken_pipelines``, for processes of their own."""
    return MODELS


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_model import model

    from relax_tapml import bring_up

    out = tmp_path_factory.mktemp("finished") / "tiny"
    bring_up(model(), session="inline", out=out)
    return out


@pytest.fixture
def finished(_finished: Path, tmp_path: Path) -> Path:
    """A copy of the folder of a finished run of ``tiny_model``, whose target was right."""
    return shutil.copytree(_finished, tmp_path / "tiny")
