"""The name of one operator call, or the names of those that run in one device call, in a span.

A span is the one annotation that every kind of call can carry (``call_tir_inplace`` already uses
its attributes), that survives Relax passes, copying and JSON, and that structural equality and
hashing ignore, so naming sites changes nothing that is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tvm import relax
from tvm.ir import SourceName, Span

_SCHEME = "tapml:"
_REGION_SCHEME = "tapml-region:"
_SEPARATOR = "\n"  # In no name of a function or unit.
_ID = re.compile(r"(?P<function>[^/]+)/(?P<ordinal>\d+)/(?P<unit>.+)")


@dataclass(frozen=True, kw_only=True, order=True)
class Site:
    """One operator call: the function it is in, its ordinal there, and the unit it calls."""

    function: str
    ordinal: int
    unit: str

    @property
    def id(self) -> str:
        """The readable name, ``main/012/fused_matmul_add2``."""
        return f"{self.function}/{self.ordinal:03d}/{self.unit}"

    @classmethod
    def parse(cls, text: str) -> Site:
        """Read an id back. Raises ``ValueError`` if ``text`` is not one."""
        match = _ID.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a site id such as 'main/012/fused_matmul_add2'")
        return cls(function=match["function"], ordinal=int(match["ordinal"]), unit=match["unit"])


def site_of(call: relax.Call) -> Site | None:
    """Return the site that ``AnnotateSites`` gave to a call, or None."""
    span = call.span
    if not isinstance(span, Span) or not span.source_name.name.startswith(_SCHEME):
        return None
    return Site.parse(span.source_name.name.removeprefix(_SCHEME))


def sites_of(call: relax.Call) -> list[Site]:
    """Return the sites that run in a device call of ``OutlineRegions``; none for other calls."""
    span = call.span
    if not isinstance(span, Span) or not span.source_name.name.startswith(_REGION_SCHEME):
        return []
    ids = span.source_name.name.removeprefix(_REGION_SCHEME).split(_SEPARATOR)
    return [Site.parse(text) for text in ids]


def with_site(call: relax.Call, site: Site) -> relax.Call:
    """Return the call, named."""
    return _with_source(call, _SCHEME + site.id)


def with_sites(call: relax.Call, sites: Iterable[Site]) -> relax.Call:
    """Return a device call with the sites that run in it."""
    return _with_source(call, _REGION_SCHEME + _SEPARATOR.join(site.id for site in sites))


def _with_source(call: relax.Call, name: str) -> relax.Call:
    span = Span(SourceName(name), 0, 0, 0, 0)
    named = relax.Call(call.op, call.args, attrs=call.attrs, ty_args=call.ty_args, span=span)
    relax.expr._update_type(named, call.ty)
    return named
