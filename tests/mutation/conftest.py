import pytest


@pytest.fixture
def suite(moved_suite):
    """The suite of matmul and softmax."""
    return moved_suite
