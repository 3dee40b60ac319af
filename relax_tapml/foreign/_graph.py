"""The JSON graph of an IR module, checked in plain Python before TVM sees it.

``tvm.ir.save_json`` writes a list of nodes; a field of a node holds a value or the number of
another node. TVM follows the numbers by recursion without checks, so a cycle or a chain of a
million nodes ends the process, and so does a field without a value in the first pass that reads it.
"""

from __future__ import annotations

import graphlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

import tvm
from tvm.ir import json_compact
from tvm_ffi import core

from relax_tapml._compat import IS_TVM_026
from relax_tapml.foreign.names import name_fault, quoted, symbol_fault, text_fault
from relax_tapml.printable import error_line

MAX_DEPTH = 1000
"""Steps from the root to a node. MiniLM has 27, a loop nest adds three for each loop."""

SEQUENCES = frozenset({"ffi.Array", "ffi.List"})
MAPS = frozenset({"ffi.Map", "ffi.Dict"})
_VALUES: dict[str, type | tuple[type, ...]] = {
    "None": type(None),
    "bool": bool,
    "int": int,
    "float": (int, float),
    "DataType": str,
    "Device": list,
}
# Prefixes of the types that a module may contain. Not: libraries, functions, passes.
_ROOMS = frozenset({"ffi", "ir", "prim", "tirx", "s_tir", "relax", "te", "sym", "arith", "target"})
_NOT_DATA = frozenset({"ffi.Module", "ffi.Function", "ffi.Error", "ffi.OpaquePyObject"})
# TVM itself leaves these fields empty, although their types do not allow it.
_MAY_BE_EMPTY = frozenset({"span", "attrs"})
# A span of several parts, as inlined functions have, is in no file of its own; what binds a loop to
# threads has the loop's extent.
_EMPTY_IN = frozenset({("ir.SequentialSpan", "source_name"), ("tirx.IterVar", "dom")})
_INT64 = 1 << 63
# Static types of fields that hold their value: int, bool, float, dtype.
_HOLDS_VALUE = frozenset({1, 2, 3, 5})
_NO_TYPE = "ir.Type"
_SITE_SOURCE = "tapml:"

SEAL_KEY = "relax_tapml_seal"
"""The entry of the metadata with a seal, which is no part of the graph."""


class GraphFault(Exception):  # noqa: N818 - the reader of the file raises a TapmlError
    """What is wrong with a graph, for a message."""


@dataclass(frozen=True)
class Node:
    """One node: its type, and its data as in the file."""

    type: str
    data: Any


class Graph:
    """The nodes of a module, each of a type that TVM has, with children that exist, and no cycle.

    Parameters
    ----------
    text
        What ``tvm.ir.save_json`` of this or an earlier version wrote.

    Raises
    ------
    GraphFault
        The graph or a name in it is malformed.
    """

    def __init__(self, text: str) -> None:
        document = _document(text)
        nodes, self._root = document["nodes"], document["root_index"]
        if not isinstance(nodes, list) or not nodes or not _is_index(self._root, len(nodes)):
            _refuse("it has no nodes, or no root")
        self.nodes = [_node(item) for item in nodes]
        self._document = document
        children = [list(self._children(number)) for number in range(len(nodes))]
        _check_depth(children)
        self._check_names()

    @property
    def kind(self) -> str:
        """Type of the root, without its prefix: ``IRModule`` for a module."""
        return str(self.nodes[self._root].type.rpartition(".")[2])

    @property
    def json(self) -> str:
        """The checked graph as JSON, written anew."""
        return _dumped(self._document)

    def text(self, number: int) -> str | None:
        """Return the value of a string node, None for other nodes."""
        node = self.nodes[number]
        return node.data if node.type == "ffi.String" else None

    def field(self, node: Node, name: str) -> Node | None:
        """Return the node in a field, None if there is no such field."""
        number = node.data.get(name) if isinstance(node.data, dict) else None
        return self.nodes[number] if isinstance(number, int) else None

    def items(self, node: Node) -> list[tuple[str | None, Node]]:
        """Return the entries of a map; keys of other types than string are None."""
        pairs = zip(node.data[::2], node.data[1::2], strict=True)
        return [(self.text(key), self.nodes[value]) for key, value in pairs]

    def _children(self, number: int) -> Iterator[int]:
        node = self.nodes[number]
        kind, data = node.type, node.data
        if kind in SEQUENCES or kind in MAPS:
            if not isinstance(data, list) or (kind in MAPS and len(data) % 2):
                _refuse(f"node {number}, a {kind}, has no list of entries")
            for child in data:
                yield self._index(number, child)
        elif kind in _VALUES:
            if not isinstance(data, _VALUES[kind]) or (isinstance(data, bool) and kind != "bool"):
                _refuse(f"node {number} is no {kind}")
            _check_value(number, data)
        elif kind == "ffi.String":
            if not isinstance(data, str):
                _refuse(f"node {number} is no string")
        elif isinstance(data, dict):
            yield from self._fields(number, node)
        else:
            _check_value(number, data)

    def _fields(self, number: int, node: Node) -> Iterator[int]:
        known = _fields_of(node.type)
        for name, value in node.data.items():
            if name not in known:
                _refuse(f"node {number}, a {node.type}, has a field {quoted(name)}")
            if not known[name].is_node:
                _check_value(number, value)
                continue
            child = self._index(number, value)
            if self.nodes[child].type == "None" and not known[name].may_be_empty:
                _refuse(f"node {number}, a {node.type}, has no {name}")
            yield child

    def _index(self, number: int, child: Any) -> int:
        if not _is_index(child, len(self.nodes)):
            _refuse(f"node {number} names the node {quoted(str(child))}, which does not exist")
        found: int = child
        return found

    def _check_names(self) -> None:
        """Refuse malformed names, keys and texts."""
        for node in self.nodes:
            fault = ""
            if node.type == "ffi.String":
                fault = text_fault(node.data)
            elif node.type in ("ir.GlobalVar", "relax.expr.ExternFunc"):
                named = self.field(node, "name_hint") or self.field(node, "global_symbol")
                if named is not None:
                    is_text = named.type == "ffi.String"
                    fault = symbol_fault(named.data) if is_text else f"a name is a {named.type}"
            elif isinstance(node.data, str):
                is_site = node.type == "ir.SourceName" and node.data.startswith(_SITE_SOURCE)
                fault = text_fault(node.data) if is_site else name_fault(node.data[: 1 << 16])
                if node.type == "ffi.Tensor":
                    fault = ""
            elif isinstance(node.data, dict):
                fault = self._names_fault(node)
            if fault:
                _refuse(fault)

    def _names_fault(self, node: Node) -> str:
        type_of = self.field(node, "ty") if node.type == "ir.Call" else None
        if type_of is not None and type_of.type == _NO_TYPE:
            # Passes fail with an internal error on such a call.
            return "a call has no type"
        for name in ("name", "name_hint", "thread_tag", "storage_scope", "attr_key"):
            named = self.field(node, name)
            if named is not None and named.type == "ffi.String":
                fault = name_fault(named.data)
                if fault:
                    return fault
        # TVMScript prints the keys of these as they are.
        for name in ("__dict__", "annotations"):
            attributes = self.field(node, name)
            if attributes is None or attributes.type not in MAPS:
                continue
            for key, value in self.items(attributes):
                fault = "an attribute has no name" if key is None else symbol_fault(key)
                if not fault and key == "global_symbol" and value.type == "ffi.String":
                    fault = symbol_fault(value.data)
                if fault:
                    return fault
        return ""


@dataclass(frozen=True)
class _Field:
    is_node: bool
    may_be_empty: bool


@cache
def _fields_of(kind: str) -> dict[str, _Field]:
    """Return the fields of a type, those of its bases included."""
    found: dict[str, _Field] = {}
    info: Any = core._lookup_or_register_type_info_from_type_key(kind)
    while info is not None:
        for field in info.fields or ():
            schema = str(field.ty)
            found[field.name] = _Field(
                is_node=field.field_static_type_index not in _HOLDS_VALUE,
                # The child that reads the module checks what 0.26 leaves empty.
                may_be_empty=IS_TVM_026
                or "None" in schema
                or schema == "Any"
                or field.name in _MAY_BE_EMPTY
                or (kind, field.name) in _EMPTY_IN,
            )
        info = info.parent_type_info
    return found


@cache
def _is_known(kind: str) -> bool:
    if kind in _VALUES:
        return True
    if kind.split(".")[0] not in _ROOMS or kind in _NOT_DATA:
        return False
    try:
        core._lookup_or_register_type_info_from_type_key(kind)
    except ValueError:
        return False
    return True


def plain_json(text: str) -> str:
    """Return ``Graph(text).json`` of a graph that was checked before."""
    return _dumped(_document(text))


def _dumped(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def _document(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
        if _is_graph(document) and document["metadata"]["tvm_version"] != tvm.__version__:
            document = json.loads(json_compact.upgrade_json(text))
    except GraphFault:
        raise
    except Exception as error:  # The upgrade may raise anything.
        _refuse(error_line(error))
    if not _is_graph(document):
        _refuse("it is not what tvm.ir.save_json writes")
    document["metadata"].pop(SEAL_KEY, None)
    found: dict[str, Any] = document
    return found


def _is_graph(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and document.keys() == {"root_index", "nodes", "metadata"}
        and isinstance(document["metadata"], dict)
        and isinstance(document["metadata"].get("tvm_version"), str)
    )


def _node(item: Any) -> Node:
    if not isinstance(item, dict) or not item.keys() <= {"type", "data"}:
        _refuse("a node has other entries than type and data")
    kind = item.get("type")
    if not isinstance(kind, str) or not _is_known(kind):
        _refuse(f"a node has the type {quoted(str(kind))}, which is not part of a module")
    return Node(kind, item.get("data"))


def _is_index(value: Any, count: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count


def _check_value(number: int, value: Any) -> None:
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        _refuse(f"node {number} has a number of more than 64 bits")


def _check_depth(children: list[list[int]]) -> None:
    depths = [0] * len(children)
    try:
        for number in _children_first(children):
            depths[number] = 1 + max((depths[child] for child in children[number]), default=0)
            if depths[number] > MAX_DEPTH:
                _refuse(f"its nodes are nested deeper than {MAX_DEPTH}")
    except graphlib.CycleError:
        _refuse("a node is part of itself")


def _children_first(children: list[list[int]]) -> Iterator[int]:
    # TVM writes them in this order; an upgrade appends nodes.
    if all(child < number for number, below in enumerate(children) for child in below):
        return iter(range(len(children)))
    return iter(graphlib.TopologicalSorter(dict(enumerate(children))).static_order())


def _refuse(reason: str) -> NoReturn:
    raise GraphFault(reason)
