"""Read IRModules from JSON, checked, and write those that this user may read unchecked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import tvm

from relax_tapml._compat import load_json
from relax_tapml.errors import StoreError
from relax_tapml.files.seals import SEAL_DIGITS, Seals
from relax_tapml.foreign._graph import SEAL_KEY, Graph, GraphFault, plain_json
from relax_tapml.foreign.calls import external_calls
from relax_tapml.foreign.loading import try_load
from relax_tapml.foreign.names import quoted
from relax_tapml.printable import names_text

TRUST = "trust=True, or --trust on the command line, --tapml-trust with pytest"
"""How the user states that a file comes from a source that may run code here."""


# Of a seal: a module's content counts, whatever its file is called.
_NAME = "module"
_METADATA = '"metadata":{'
_SEAL = re.compile(rf'(?<="metadata":{{)"{SEAL_KEY}":"([0-9a-f]{{{SEAL_DIGITS}}})",'.encode())


@dataclass(kw_only=True)
class _Checked:
    """What this process has checked already: it opens a suite several times in a run.

    Parameters
    ----------
    sound
        Digests of contents that were checked, or written by this process.
    calls
        Names of the external calls of the user's own model.
    """

    sound: set[str]
    calls: set[str]


_CHECKED = _Checked(sound=set(), calls=set())


def mark_checked(digests: Iterable[str]) -> None:
    """Take contents for checked, because this process wrote them: SHA-256, in hex."""
    _CHECKED.sound.update(digests)


def allow_calls_of(module: tvm.IRModule) -> None:
    """Allow all modules the external calls of one that the user runs in this process."""
    with suppress(GraphFault):  # Then it allows no call.
        _CHECKED.calls.update(item.name for item in external_calls(Graph(tvm.ir.save_json(module))))


def sealed_json(module: tvm.IRModule) -> str:
    """Return what ``tvm.ir.save_json`` writes, with a seal of this user in its metadata.

    Later commands of the user let such a module call anything: it came from the user's own model
    and pipelines, which may do so too. For TVM the seal is an unknown entry of the metadata.
    """
    text = tvm.ir.save_json(module)
    nodes, _, metadata = text.rpartition(_METADATA)
    seal = Seals().seal(_NAME, text.encode())
    return f'{nodes}{_METADATA}"{SEAL_KEY}":"{seal}",{metadata}'


def check_modules(contents: Mapping[str, bytes], *, fix: str, trust: bool = False) -> None:
    """Refuse malformed or unsafe modules; all modules of an artefact at once, in one child.

    The graph of each is checked in Python: the nodes that TVM recurses into, names, and external
    calls. Then a child process reads, prints and hashes it, so that a crash ends only the child.

    Parameters
    ----------
    contents
        The output of ``tvm.ir.save_json``, by path for messages.
    fix
        What to do if one cannot be used, a sentence.
    trust
        Whether they may call anything; modules with a seal of this user may.

    Raises
    ------
    StoreError
        One is damaged, has a malformed name, crashes the process that reads it, or, unless
        ``trust``, calls a function that is not known to be harmless.
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
    """Return the module in an output of ``tvm.ir.save_json``, checked by ``check_modules``.

    Parameters
    ----------
    data
        Content of a file, or of an entry in one.
    where
        Its path, for messages.
    fix
        What to do if it cannot be used, a sentence.
    trust
        Whether it may call anything.

    Raises
    ------
    StoreError
        This TVM cannot read it, it is no module, or ``check_modules`` raises one.
    """
    check_modules({where: data}, fix=fix, trust=trust)
    # The checked form: two JSON readers may read one text differently.
    module = load_json(plain_json(data.decode()))
    if not isinstance(module, tvm.IRModule):
        raise StoreError(f"{where} holds a {type(module).__name__}, expected an IRModule. {fix}")
    return module


def _digest(data: bytes, *, trust: bool) -> str:
    # A trusted module was not checked for harmless calls.
    return f"{hashlib.sha256(data).hexdigest()}{' trusted' if trust else ''}"


def _is_sealed(data: bytes) -> bool:
    found = list(_SEAL.finditer(data))
    if not found:
        return False
    start, end = found[-1].span()
    seal = found[-1][1].decode()
    return Seals().is_sealed(_NAME, data[:start] + data[end:], seal)


def _checked(data: bytes, where: str, fix: str, trust: bool) -> Graph:
    try:
        graph = Graph(data.decode())
    except (GraphFault, UnicodeDecodeError) as fault:
        raise StoreError(
            f"{where} is damaged: it is not a module this TVM can read: {fault}. {fix}"
        ) from None
    if graph.kind != "IRModule":
        raise StoreError(f"{where} holds a {graph.kind}, expected an IRModule. {fix}")
    if not trust and not _is_sealed(data):
        unsafe = [
            item
            for item in external_calls(graph)
            if not item.is_harmless and item.name not in _CHECKED.calls
        ]
        if unsafe:
            listed = names_text([f"{quoted(item.name)} ({item.how})" for item in unsafe])
            raise StoreError(
                f"{where} calls {listed} outside of itself, which is not known to be "
                f"harmless: running it may do anything that you may do. If you trust its source, "
                f"pass {TRUST}"
            )
    return graph
