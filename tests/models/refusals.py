"""Errors of which tests check the names, numbers and hints, in any words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def refused(error: type[Exception], *named: object) -> Iterator[None]:
    """Expect an error whose message holds each of ``named``, in this order."""
    with pytest.raises(error) as caught:
        yield
    rest = str(caught.value)
    for text in map(str, named):
        assert text in rest, f"{text!r} is missing, or in another place, in: {caught.value}"
        rest = rest[rest.index(text) + len(text) :]
