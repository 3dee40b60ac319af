"""The data that a call carries in its span: its site, its origins, the sites of a device call.

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

from .origin import Origin

_SCHEME = "tapml:"
_ORIGIN_SCHEME = "tapml-origin:"
_REGION_SCHEME = "tapml-region:"
_SEPARATOR = "\n"  # In no name of a function, unit or module.
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
    lines = _lines(call, _SCHEME)
    return Site.parse(lines[0]) if lines else None


def sites_of(call: relax.Call) -> list[Site]:
    """Return the sites that run in a device call of ``OutlineRegions``; none for other calls."""
    return [Site.parse(line) for line in _lines(call, _REGION_SCHEME)]


def origins_of(call: relax.Call) -> tuple[Origin, ...]:
    """Return where a call comes from, in the order of the model; empty where it has no origin."""
    lines = _lines(call, _ORIGIN_SCHEME) or _lines(call, _SCHEME)[1:]
    return tuple(Origin.parse(line) for line in lines)


def with_site(call: relax.Call, site: Site) -> relax.Call:
    """Return the call with a site; it keeps its origins."""
    return _with_lines(call, _SCHEME, [site.id, *(origin.text for origin in origins_of(call))])


def with_sites(call: relax.Call, sites: Iterable[Site]) -> relax.Call:
    """Return a device call with the sites that run in it."""
    return _with_lines(call, _REGION_SCHEME, [site.id for site in sites])


def with_origins(call: relax.Call, origins: Iterable[Origin]) -> relax.Call:
    """Return a call that is not named yet, with where it comes from."""
    return _with_lines(call, _ORIGIN_SCHEME, [origin.text for origin in origins])


def _lines(call: relax.Call, scheme: str) -> list[str]:
    span = call.span
    if not isinstance(span, Span) or not span.source_name.name.startswith(scheme):
        return []
    return str(span.source_name.name).removeprefix(scheme).split(_SEPARATOR)


def _with_lines(call: relax.Call, scheme: str, lines: Iterable[str]) -> relax.Call:
    span = Span(SourceName(scheme + _SEPARATOR.join(lines)), 0, 0, 0, 0)
    named = relax.Call(call.op, call.args, attrs=call.attrs, ty_args=call.ty_args, span=span)
    relax.expr._update_type(named, call.ty)
    return named
