from __future__ import annotations

import shutil

import pytest


@pytest.fixture
def suite(written_suite, tmp_path):
    """A copy of its own, away from where it was written, without the captures."""
    return shutil.copytree(written_suite, tmp_path / "moved" / "tests")
