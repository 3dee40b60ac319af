"""Where in the model an operator comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")
_PATTERNS_AT_MOST = 3


@dataclass(frozen=True, kw_only=True, order=True)
class Origin:
    """A node of the framework's graph, or the module of a weight that an operator reads.

    Parameters
    ----------
    module
        Path of the module in the model, ``encoder.layer.3.output.dense``; empty for the model.
    node
        Name of the node, ``addmm_5``; empty where only the module is known.
    """

    module: str
    node: str = ""

    @property
    def text(self) -> str:
        """Both, ``encoder.layer.3.output.dense:addmm_5``."""
        return f"{self.module}:{self.node}" if self.node else self.module

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Read a text back."""
        module, _, node = text.partition(":")
        return cls(module=module, node=node)


def site_text(origins: Iterable[Origin]) -> str:
    """Return the modules of one site, those after the first without what they share with it.

    ``encoder.layer.3.output.dense + LayerNorm``. The model itself has no name and is left out.
    Without a named module, the text lists the nodes.
    """
    nodes = list(origins)
    paths = [origin.module for origin in nodes if origin.module]
    return _joined(paths or [origin.node for origin in nodes], " + ")


def unit_text(sites: Iterable[Iterable[Origin]]) -> str:
    """Return the modules of all sites of a unit, with ``*`` for the numbers of repeated layers.

    ``encoder.layer.*.output.dense + LayerNorm``; empty where no origin is known.
    """
    by_pattern: dict[str, set[str]] = {}
    for origins in sites:
        text = site_text(origins)
        if text:
            by_pattern.setdefault(_NUMBER.sub("*", text), set()).add(text)
    texts = [text if len(sites) > 1 else min(sites) for text, sites in by_pattern.items()]
    more = len(texts) - _PATTERNS_AT_MOST
    return _joined(texts[:_PATTERNS_AT_MOST], ", ") + (f" and {more} more" if more > 0 else "")


def _joined(paths: Iterable[str], separator: str) -> str:
    """Join paths, each without the modules it shares with the one before it."""
    joined: list[str] = []
    before: list[str] = []
    for path in dict.fromkeys(paths):
        parts = path.split(".")
        pairs = enumerate(zip(parts[:-1], before, strict=False))
        shared = next((n for n, (a, b) in pairs if a != b), min(len(parts) - 1, len(before)))
        joined.append(".".join(parts[shared:]))
        before = parts
    return separator.join(joined)
