"""Errors of which tests check the names, numbers and hints, in any words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def refused(error: type[Exception], *named: object) -> Iterator[None]:
    """Expect an error whose message holds each of ``named``, one after the other."""
    with pytest.raises(error) as caught:
        yield
    assert holds_in_order(str(caught.value), *named), f"{named} in: {caught.value}"


def holds_in_order(message: str, *named: object) -> bool:
    """Whether a message holds each of ``named``, one after the other."""
    pattern = ".*".join(re.escape(str(text)) for text in named)
    return re.search(pattern, message, re.DOTALL) is not None
