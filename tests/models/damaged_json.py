"""Documents with one value that nobody wrote there."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Place = tuple[str | int, ...]

_NESTED: list[Any] = []
for _ in range(200):
    _NESTED = [_NESTED]

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["../x", "/", "", "\0", "\ud800", "float8", "O", "i4,i4", "rule", "nan"]),
    st.sampled_from([10**400, 2**40, [2**40, 2**40], [[]], [None], {"a": 1}, {}, _NESTED]),
    st.lists(st.integers(-3, 3), max_size=3),
)


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """Yield every place in a document, the document itself first."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


@st.composite
def damaged(draw: st.DrawFn, document: Any) -> Any:
    """Return a copy of a document in which a value is another one, or is not there."""
    changed = copy.deepcopy(document)
    place = draw(st.sampled_from([place for place in places(changed) if place]), label="place")
    parent = changed
    for key in place[:-1]:
        parent = parent[key]
    if draw(st.booleans(), label="remove"):
        del parent[place[-1]]
    else:
        parent[place[-1]] = draw(JUNK, label="value")
    return changed
