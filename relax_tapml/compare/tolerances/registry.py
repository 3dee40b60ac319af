"""The kinds of tolerance that suites store."""

from __future__ import annotations

from relax_tapml.compare.tolerances.choices import ChoiceTolerance
from relax_tapml.compare.tolerances.elements import ElementTolerance
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.index import IndexTolerance
from relax_tapml.compare.tolerances.rule import RuleTolerance
from relax_tapml.compare.tolerances.stored import StoredTolerance
from relax_tapml.compare.tolerances.tolerance import StorableTolerance

KINDS: tuple[type[StorableTolerance], ...] = (
    RuleTolerance,
    EqualTolerance,
    ElementTolerance,
    IndexTolerance,
    ChoiceTolerance,
)


def kind_of(stored: StoredTolerance) -> type[StorableTolerance]:
    """Return the kind of a tolerance in a suite.

    Raises
    ------
    ValueError
        The kind is unknown, a field of it is missing, or a field of another kind is present.
    """
    found = {kind.kind: kind for kind in KINDS}
    if stored.kind not in found:
        raise ValueError(f"expected a tolerance of kind {', '.join(found)}, got {stored.kind!r}")
    kind = found[stored.kind]
    if stored.given != kind.stored:
        raise ValueError(
            f"a tolerance of kind {kind.kind!r} needs {list(kind.stored)}, got {list(stored.given)}"
        )
    if stored.coarse is not None and kind is not ElementTolerance:
        raise ValueError(f"a tolerance of kind {kind.kind!r} has no coarse bounds")
    return kind
