"""Which operators are on the device."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.read import read_json
from relax_tapml.partition.site_table import SiteEntry, site_table

_SCHEMA = 1
_KIND = "relax_tapml.boundary"
_RANGE = re.compile(r"(?P<stem>.*[._])(?P<first>\d{1,9})-(?P<last>\d{1,9})", re.ASCII)
_MAX_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """The sites on the device, chosen by any of their names; all others are on the host.

    A site is on the device if one of the fields names it. ``boundary.json`` has the same fields,
    each a list of strings. ::

        Boundary(units=["softmax"], layers=["encoder_layer_0-3"], sites=["main/004/gelu"])

    Parameters
    ----------
    units
        Units, with all their sites.
    kinds
        Operator kinds: all units whose names differ in their numbers only.
    layers
        Layers, or ranges of them with both ends included.
    functions
        Relax functions, with all sites in them.
    sites
        Single sites, by id.
    """

    units: Collection[str] = field(default_factory=frozenset)
    kinds: Collection[str] = field(default_factory=frozenset)
    layers: Collection[str] = field(default_factory=frozenset)
    functions: Collection[str] = field(default_factory=frozenset)
    sites: Collection[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, str):
                raise UsageError(f"boundary: {item.name} is the string {value!r}; expected a list")
            object.__setattr__(self, item.name, frozenset(value))

    def resolve(self, lowered: tvm.IRModule) -> frozenset[str]:
        """Return the ids of its sites in a lowered module.

        Raises
        ------
        UsageError
            A name is not one of the module's.
        """
        return self.among(site_table(lowered))

    def among(self, table: Sequence[SiteEntry]) -> frozenset[str]:
        """Return the ids of its sites in a table of ``site_table``. Raises as ``resolve`` does."""
        chosen: set[str] = set()
        names: dict[str, tuple[Collection[str], Callable[[SiteEntry], str]]] = {
            "unit": (self.units, lambda entry: entry.site.unit),
            "kind": (self.kinds, lambda entry: entry.kind),
            "layer": (
                _layers(self.layers, len({entry.layer for entry in table})),
                lambda entry: entry.layer,
            ),
            "function": (self.functions, lambda entry: entry.site.function),
            "site": (self.sites, lambda entry: entry.site.id),
        }
        for what, (wanted, name_of) in names.items():
            if not wanted:
                continue
            sites: dict[str, list[str]] = {}
            for entry in table:
                sites.setdefault(name_of(entry), []).append(entry.site.id)
            sites.pop("", None)
            for name in sorted(wanted):
                if name not in sites:
                    raise UsageError(_unknown(what, name, sites))
                chosen.update(sites[name])
        return frozenset(chosen)

    def document(self) -> dict[str, Any]:
        """Return the content of ``boundary.json``."""
        chosen = {item.name: sorted(getattr(self, item.name)) for item in fields(self)}
        return {"schema": _SCHEMA, "kind": _KIND, **chosen}

    @classmethod
    def from_document(cls, document: Any, where: str) -> Boundary:
        """Read a ``document``, written by a run or by hand; ``where`` is for messages.

        Raises
        ------
        UsageError
            It is not a boundary.
        """
        if not isinstance(document, dict) or document.get("kind") != _KIND:
            raise UsageError(
                f"{where} is not a boundary: expected a JSON object with "
                f'"kind": "{_KIND}", as a run writes it'
            )
        if document.get("schema") != _SCHEMA or isinstance(document["schema"], bool):
            raise UsageError(f"{where}: expected schema {_SCHEMA}, got {document.get('schema')!r}")
        names = [item.name for item in fields(cls)]
        extra = document.keys() - {*names, "schema", "kind"}
        if extra:
            raise UsageError(
                f"{where}: unknown field {', '.join(sorted(extra))}; expected {', '.join(names)}"
            )
        given = [name for name in names if name in document]
        for name in given:
            value = document[name]
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise UsageError(f"{where}: {name} must be a list of strings, got {value!r}")
        return cls(**{name: document[name] for name in given})


def read_boundary(path: Path | str) -> Boundary:
    """Read a ``boundary.json``.

    Raises
    ------
    UsageError
        There is no such file, or it is not a boundary.
    """
    try:
        document = read_json(Path(path), fix="Name another file", max_bytes=_MAX_BYTES)
    except StoreError as error:
        raise UsageError(f"boundary {error}") from error
    return Boundary.from_document(document, f"boundary {path}")


def boundary_of(sites: Collection[str], table: Iterable[SiteEntry]) -> Boundary:
    """Return the boundary of some sites, by unit where all sites of a unit are among them."""
    by_unit: dict[str, set[str]] = {}
    for entry in table:
        by_unit.setdefault(entry.site.unit, set()).add(entry.site.id)
    chosen = frozenset(sites)
    whole = {unit for unit, ids in by_unit.items() if ids <= chosen}
    rest = chosen.difference(*(by_unit[unit] for unit in whole))
    return Boundary(units=whole, sites=rest)


def _layers(names: Iterable[str], most: int) -> set[str]:
    """Replace ranges of layers by the names of their layers, at most ``most`` for each range."""
    layers = set()
    for name in names:
        match = _RANGE.fullmatch(name)
        if match is None:
            layers.add(name)
            continue
        first, last = int(match["first"]), int(match["last"])
        if last < first:
            raise UsageError(f"boundary: layers {name!r} end before they begin")
        if last - first >= most:
            raise UsageError(
                f"boundary: layers {name!r} are {last - first + 1}, more than the model has"
            )
        layers.update(f"{match['stem']}{number}" for number in range(first, last + 1))
    return layers


def _unknown(what: str, name: str, names: Collection[str]) -> str:
    if not names:
        return f"boundary: {what} {name!r}: the model has no {what}s" + (
            ", since no weight has a number in its name" if what == "layer" else ""
        )
    close = difflib.get_close_matches(name, names) or list(names)[:5]
    return f"boundary: the model has no {what} {name!r}; it has {', '.join(close)}" + (
        ", ..." if len(names) > len(close) else ""
    )
