"""The suite of these tests is the written one, in place of the recorded one."""

from __future__ import annotations

import pytest


@pytest.fixture
def suite(moved_suite):
    return moved_suite
