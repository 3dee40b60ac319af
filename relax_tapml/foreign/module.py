"""The one place that reads a module from JSON, and what is known of contents that were read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import tvm

from relax_tapml._compat import load_json
from relax_tapml.errors import StoreError
from relax_tapml.foreign._graph import Graph, GraphFault, plain_json
from relax_tapml.foreign.calls import outside
from relax_tapml.foreign.loading import try_load
from relax_tapml.foreign.names import quoted
from relax_tapml.foreign.own import is_own

TRUST = "trust=True, or --trust on the command line, --tapml-trust with pytest"
"""How somebody says that a file comes from somebody who may run code here."""


@dataclass(kw_only=True)
class _Checked:
    """What this process knows already: it opens a suite several times in a run.

    Parameters
    ----------
    sound
        Digests of contents that were checked, or that this process has written.
    calls
        Names that the user's own model calls outside itself.
    """

    sound: set[str]
    calls: set[str]


_CHECKED = _Checked(sound=set(), calls=set())


def mark_checked(digests: Iterable[str]) -> None:
    """Take over that contents are sound because this process wrote them: SHA-256, in hex."""
    _CHECKED.sound.update(digests)


def allow_calls_of(module: tvm.IRModule) -> None:
    """Let modules call whatever a module calls that the user runs here anyway."""
    with suppress(GraphFault):  # Then nothing is known of it.
        _CHECKED.calls.update(item.name for item in outside(Graph(tvm.ir.save_json(module))))


def check_modules(contents: Mapping[str, bytes], *, fix: str, trust: bool = False) -> None:
    """Refuse modules that are not sound; all modules of an artefact at once, in one child.

    The graph of each is checked in Python: what TVM recurses into, names, and what it calls outside
    itself. Then a child reads, prints and hashes it, so that what ends TVM ends the child.

    Parameters
    ----------
    contents
        By path, for messages: what ``tvm.ir.save_json`` wrote.
    fix
        What to do where one cannot be used, a sentence.
    trust
        Whether they may call anything; what this user has written on this machine may anyhow.

    Raises
    ------
    StoreError
        One is damaged, has a name that is none, calls something that is not known to be harmless
        and ``trust`` is false, or ends the process that reads it.
    """
    waiting: dict[str, tuple[str, bytes]] = {}
    for where, data in contents.items():
        digest = _digest(data, trust=trust)
        if digest not in _CHECKED.sound and hashlib.sha256(data).hexdigest() not in _CHECKED.sound:
            waiting[digest] = where, data
    graphs = {where: _checked(data, where, fix, trust) for where, data in waiting.values()}
    try_load({where: graph.json for where, graph in graphs.items()}, fix=fix)
    _CHECKED.sound.update(waiting)


def read_module(data: bytes, where: str, *, fix: str, trust: bool = False) -> tvm.IRModule:
    """Return the module in what ``tvm.ir.save_json`` wrote, checked by ``check_modules``.

    Parameters
    ----------
    data
        Content of a file, or of an entry of one.
    where
        For messages: its path.
    fix
        What to do where it cannot be used, a sentence.
    trust
        Whether it may call anything.

    Raises
    ------
    StoreError
        This TVM cannot read it, it is no module, or ``check_modules`` refuses it.
    """
    check_modules({where: data}, fix=fix, trust=trust)
    # As it was checked: two readers may take one text for two things.
    module = load_json(plain_json(data.decode()))
    if not isinstance(module, tvm.IRModule):
        raise StoreError(f"{where} holds a {type(module).__name__}, expected an IRModule. {fix}")
    return module


def _digest(data: bytes, *, trust: bool) -> str:
    # What was trusted once is not known to be harmless.
    return f"{hashlib.sha256(data).hexdigest()}{' trusted' if trust else ''}"


def _checked(data: bytes, where: str, fix: str, trust: bool) -> Graph:
    try:
        graph = Graph(data.decode())
    except (GraphFault, UnicodeDecodeError) as fault:
        raise StoreError(
            f"{where} is damaged: it is not a module this TVM can read: {fault}. {fix}"
        ) from None
    if graph.kind != "IRModule":
        raise StoreError(f"{where} holds a {graph.kind}, expected an IRModule. {fix}")
    if not trust and not is_own(data):
        strange = [
            item for item in outside(graph) if not item.is_known and item.name not in _CHECKED.calls
        ]
        if strange:
            told = ", ".join(f"{quoted(item.name)} ({item.how})" for item in strange[:3])
            more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
            raise StoreError(
                f"{where} reaches outside of itself for {told}{more}, which is not known to be "
                f"harmless: running it may do anything that you may. If it comes from somebody "
                f"you trust, pass {TRUST}"
            )
    return graph
