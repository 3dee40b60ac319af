"""What moves in one step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from relax_tapml.errors import UsageError
from relax_tapml.partition.site_table import SiteEntry


class By(StrEnum):
    """What moves in one step."""

    UNIT = "unit"
    """A unit with all its sites."""
    KIND = "kind"
    """All units of one operator kind; one by one if they fail together."""
    LAYER = "layer"
    """All sites of a layer; one by one if they fail together."""
    FUNCTION = "function"
    """All sites of a Relax function; one by one if they fail together."""
    SITE = "site"
    """A single site."""


@dataclass(frozen=True, kw_only=True)
class MoveGroup:
    """Sites of one unit that move together and are named together.

    Parameters
    ----------
    name
        Of the unit, or the id of a site.
    unit
        The unit they call.
    sites
        Their ids.
    """

    name: str
    unit: str
    sites: frozenset[str]


_BATCH_OF: dict[By, Callable[[SiteEntry], str]] = {
    By.UNIT: lambda entry: entry.site.unit,
    By.KIND: lambda entry: entry.kind,
    By.LAYER: lambda entry: f"{entry.site.function} {entry.layer}",
    By.FUNCTION: lambda entry: entry.site.function,
    By.SITE: lambda entry: entry.site.id,
}


def move_batches(
    table: Sequence[SiteEntry], by: By, movable: Collection[str]
) -> list[list[MoveGroup]]:
    """Return what to move, in the order of the program: batches of groups, a batch in one step.

    Parameters
    ----------
    table
        Of ``site_table``, in the order to move in.
    by
        What moves in one step.
    movable
        Ids of the sites that may leave the host; all others are left out.

    Raises
    ------
    UsageError
        By layer, and no site belongs to one.
    """
    if by is By.LAYER and not any(entry.layer for entry in table):
        raise UsageError(
            "--by layer: no weight of the model has a number in its name that would say which "
            "layer it belongs to. Use --by unit, kind, function or site"
        )
    is_whole = by in (By.UNIT, By.KIND)
    batches: dict[str, dict[str, list[SiteEntry]]] = {}
    for entry in table:
        if entry.site.id in movable:
            batch = batches.setdefault(_BATCH_OF[by](entry), {})
            batch.setdefault(entry.site.unit if is_whole else entry.site.id, []).append(entry)
    return [
        [
            MoveGroup(
                name=name,
                unit=entries[0].site.unit,
                sites=frozenset(entry.site.id for entry in entries),
            )
            for name, entries in batch.items()
        ]
        for batch in batches.values()
    ]
