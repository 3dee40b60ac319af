"""The model as a picture: a cell for each call of a unit, a row for each structure of layers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from relax_tapml.compare.verdict import Verdict
from relax_tapml.report.quantities import count_text
from relax_tapml.results.run_result import RunResult

_SITE = re.compile(r"(?P<function>[^/]+)/(?P<ordinal>\d{1,9})/(?P<unit>.+)", re.DOTALL)
# A path of modules up to its first number: model.layers.11 of model.layers.11.mlp.
_LAYER = re.compile(r"(?P<prefix>(?:[^.:]+\.)+)(?P<number>\d{1,9})(?![^.:])")
_MOST_CELLS = 2500
_MOST_PERIOD = 256
_NAMED_NUMBERS = 6


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One site of a row, or several that follow each other and are alike.

    Parameters
    ----------
    unit, kind
        Its unit, and the operators in that name.
    number
        Of the unit in the table of units, from 0; None where it was not judged.
    verdict
        Of the unit; None where it was not judged.
    title
        Where the sites are, for people.
    count
        How many sites of one layer the cell stands for.
    """

    unit: str
    kind: str
    number: int | None
    verdict: Verdict | None
    title: str
    count: int = 1

    @property
    def is_wrong(self) -> bool:
        """Whether the unit is wrong on the target."""
        return self.verdict is not None and self.verdict.is_wrong


@dataclass(frozen=True, kw_only=True)
class Row:
    """Successive sites: those of a layer, or between layers.

    Parameters
    ----------
    name
        ``encoder.layer.* (0-5)``; empty where the sites have no known place.
    times
        How many layers have these units in this order.
    cells
        Of one of them.
    """

    name: str
    times: int
    cells: tuple[Cell, ...]

    @property
    def text(self) -> str:
        """What the row has, for people who do not see it."""
        sites = sum(cell.count for cell in self.cells)
        verdicts: Counter[str] = Counter()
        for cell in self.cells:
            verdicts[str(cell.verdict or "not judged")] += cell.count
        found = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
        return f"{count_text(sites, 'site')}: {found}"


@dataclass(frozen=True, kw_only=True)
class ModelPicture:
    """The rows of each function, in the order of the model, and how many sites have no cell.

    Functions of one call, if there are several, share a row that comes last and has no name.
    """

    functions: tuple[tuple[str, tuple[Row, ...]], ...]
    left_out: int = 0

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return sum(len(row.cells) for _, rows in self.functions for row in rows)


@dataclass(frozen=True, kw_only=True)
class _Site:
    id: str
    function: str
    ordinal: int
    unit: str
    origins: tuple[str, ...]


@dataclass(kw_only=True)
class _Layer:
    """Successive sites of one layer; ``prefix`` is empty where they are in none."""

    prefix: str
    number: int
    sites: list[_Site] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    times: int = 1

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        return self.prefix, tuple(site.unit for site in self.sites)


def lay_out_model(result: RunResult) -> ModelPicture:
    """Place every site of a run's units, judged or not.

    A layer is the path of the modules that its sites come from, up to the first number in it; sites
    without a place belong to the layer before them. Layers with the same units in the same order
    share a row. Where no site has a layer, units that repeat in the same order are taken for some.
    """
    numbers = {unit.name: number for number, unit in enumerate(result.units)}
    verdicts = {unit.name: unit.verdict for unit in result.units}
    functions: dict[str, list[_Site]] = {}
    for site in _sites(result):
        functions.setdefault(site.function, []).append(site)
    # Kernels that the runtime calls, a function each.
    alone = [sites[0] for sites in functions.values() if len(sites) == 1]
    if len(alone) > 1:
        functions = {name: sites for name, sites in functions.items() if len(sites) > 1}
        functions[""] = alone
    pictures = []
    room, left_out = _MOST_CELLS, 0
    for name, sites in functions.items():
        if name:
            sites.sort(key=lambda site: site.ordinal)
        layers = _layers(sites) if name else [_Layer(prefix="", number=0, sites=sites)]
        if name and all(layer.times == 1 and not layer.prefix for layer in layers):
            layers = _repeated(sites)
        rows = []
        for layer in layers:
            cells = _cells(layer.sites, numbers, verdicts)
            shown = cells[: max(room, 0)]
            room -= len(shown)
            left_out += layer.times * sum(cell.count for cell in cells[len(shown) :])
            if shown:
                rows.append(Row(name=_name(layer), times=layer.times, cells=tuple(shown)))
        pictures.append((name, tuple(rows)))
    return ModelPicture(functions=tuple(pictures), left_out=left_out)


def _sites(result: RunResult) -> Iterator[_Site]:
    units = [(unit.name, unit.origins) for unit in result.units]
    units += [(unit.name, unit.origins) for unit in result.unjudged]
    for name, sites in units:
        for site_id, origins in sites.items():
            found = _SITE.fullmatch(site_id)
            if found is None:
                continue
            yield _Site(
                id=site_id,
                function=found["function"],
                ordinal=int(found["ordinal"]),
                unit=name,
                origins=origins,
            )


def _layers(sites: Sequence[_Site]) -> list[_Layer]:
    """Return the layers of a function; those of equal units are one, where the first of them is."""
    layers: list[_Layer] = []
    place = ("", 0)
    for site in sites:
        if site.origins:
            place = _place(site.origins)
        if not layers or (layers[-1].prefix, layers[-1].number) != place:
            layers.append(_Layer(prefix=place[0], number=place[1]))
        layers[-1].sites.append(site)
    merged: dict[tuple[str, tuple[str, ...]], _Layer] = {}
    found = []
    for layer in layers:
        same = merged.get(layer.key) if layer.prefix else None
        if same is None:
            layer.numbers.append(layer.number)
            merged[layer.key] = layer
            found.append(layer)
        else:
            same.numbers.append(layer.number)
            same.times += 1
    return found


def _place(origins: Sequence[str]) -> tuple[str, int]:
    """Return the layer of the last origin that is in one."""
    for origin in reversed(origins):
        found = _LAYER.match(origin.partition(":")[0])
        if found is not None:
            return found["prefix"], int(found["number"])
    return "", 0


def _repeated(sites: Sequence[_Site]) -> list[_Layer]:
    """Return parts of a function in which units repeat in the same order, and what is between."""
    units = [site.unit for site in sites]
    layers: list[_Layer] = []
    start = between = 0
    while start < len(units):
        period, times = _period(units, start)
        if times < 2:
            start += 1
            continue
        if between < start:
            layers.append(_Layer(prefix="", number=0, sites=list(sites[between:start])))
        part = list(sites[start : start + period])
        layers.append(_Layer(prefix="", number=0, sites=part, times=times))
        start = between = start + period * times
    if between < len(units):
        layers.append(_Layer(prefix="", number=0, sites=list(sites[between:])))
    return layers


def _period(units: Sequence[str], start: int) -> tuple[int, int]:
    """Return the length of what repeats from ``start`` on and covers most, and how often.

    Of fewer than four units it is no layer.
    """
    best = (1, 1)
    following = [
        n - start
        for n in range(start + 4, min(len(units), start + _MOST_PERIOD + 1))
        if units[n] == units[start]
    ]
    for period in following:
        times, place = 1, start + period
        while units[place : place + period] == units[start : start + period]:
            times, place = times + 1, place + period
        if times > 1 and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def _cells(
    sites: Sequence[_Site], numbers: dict[str, int], verdicts: dict[str, Verdict]
) -> list[Cell]:
    cells = []
    for unit, group in groupby(sites, key=lambda site: site.unit):
        alike = list(group)
        first, last = alike[0], alike[-1]
        verdict = verdicts.get(unit)
        where = first.id if len(alike) == 1 else f"{first.id} to {last.id}"
        origin = first.origins[-1] if first.origins else ""
        parts = [where, str(verdict or "not judged"), origin]
        cells.append(
            Cell(
                unit=unit,
                kind=kind_text(unit),
                number=numbers.get(unit),
                verdict=verdict,
                title=", ".join(filter(None, parts)),
                count=len(alike),
            )
        )
    return cells


def kind_text(unit: str) -> str:
    """Return the operators in a unit's name: ``matmul add`` of ``fused_matmul4_add2``."""
    parts = [part.rstrip("0123456789") or part for part in unit.split("_")]
    return " ".join(parts[1:] if parts[0] == "fused" and len(parts) > 1 else parts)


def _name(layer: _Layer) -> str:
    if not layer.prefix:
        return ""
    if layer.times == 1:
        return f"{layer.prefix}{layer.number}"
    return f"{layer.prefix}* ({_numbers_text(layer.numbers)})"


def _numbers_text(numbers: Sequence[int]) -> str:
    """Return numbers as ranges: ``0-5, 8, 10``, the last ones left out where they are many."""
    ordered = sorted(set(numbers))
    ranges = []
    for _, group in groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in group]
        ends = (members[0], members[-1])
        ranges.append(str(ends[0]) if ends[0] == ends[1] else f"{ends[0]}-{ends[1]}")
    more = ", ..." if len(ranges) > _NAMED_NUMBERS else ""
    return ", ".join(ranges[:_NAMED_NUMBERS]) + more
