"""Checks of a ``.pt2`` file before PyTorch loads it.

PyTorch runs parts of such a file as Python: pickled objects, expressions for dimensions and
conditions for inputs, which it evaluates, names, which it writes into source, and operators, which
may be any function of its modules. A program of ``torch.export.save`` needs none of these.
"""

from __future__ import annotations

import ast
import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relax_tapml.foreign.names import quoted

_MAX_JSON_BYTES = 512 * 1024 * 1024
# Objects of Python and of C++, and compiled libraries.
_CODE_ENTRY = re.compile(r"(^|/)(custom_obj_|opaque_obj_)|/aotinductor/|\.(so|cpp|o|dll|dylib|py)$")
_OPERATOR = re.compile(
    r"torch\.ops\.[a-z]\w*\.(?!__)\w+(\.(?!__)\w+)?"
    r"|torch\.sym_(ite|max|min|float|int|not|sum|sqrt|fresh_size)"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|xor"
    r"|not_|inv|invert|lshift|rshift|getitem|truth|index)"
    r"|math\.(ceil|floor|trunc|sqrt|pow|exp|log|log2|fabs)"
)
# They read and write files, or use the network.
_NOT_OPERATOR = re.compile(
    r"torch\.ops\.((_?c10d\w*|image|torchaudio|rpc)\.|\w+\.(save|from_file)\b)"
)
_NAME = re.compile(r"[\w.]*")
_NAMES = frozenset({"name", "as_name", "parameter_name", "buffer_name", "tensor_constant_name"})
_OPERATORS = frozenset({"target", "as_operator"})
_SYMBOL = re.compile(r"[a-z]+[0-9]+(_[0-9]+)?|oo|int_oo|zoo|nan|true|false")
_FUNCTION = re.compile(r"[A-Z]\w*|floor|ceiling|sqrt|sign|log|exp")
_WORD = re.compile(r"\w*")
_IN_EXPRESSION = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.keyword),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context, ast.Tuple),
)
_IN_GUARD = (*_IN_EXPRESSION, ast.Subscript, ast.List)
_GUARD_NAMES = frozenset({"L", "len", "min", "max", "int", "float", "bool", "abs", "math", "torch"})
_GUARD_ATTRIBUTES = frozenset(
    {"size", "stride", "storage_offset", "dim", "ndim", "numel", "shape", "dtype", "is_contiguous"}
    | {"sym_max", "sym_min", "sym_not", "sym_float", "sym_int", "trunc", "floor", "ceil"}
)


def check_program_file(file: Path) -> None:
    """Refuse a program whose code PyTorch would run while it loads.

    Raises
    ------
    ValueError
        It holds code, or is not a program; the message names the entry.
    OSError, zipfile.BadZipFile
        It cannot be read.
    """
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if _CODE_ENTRY.search(entry.filename):
                raise ValueError(f"its entry {quoted(entry.filename)} is code")
            if entry.filename.endswith(".json"):
                if entry.file_size > _MAX_JSON_BYTES:
                    raise ValueError(f"its entry {quoted(entry.filename)} is too large")
                fault = _fault(_parsed(archive.read(entry)))
                if fault:
                    raise ValueError(f"its entry {quoted(entry.filename)} has {fault}")


@contextmanager
def weights_only() -> Iterator[None]:
    """Allow PyTorch to unpickle tensors only, also where its loader would allow any object."""
    switch = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(switch)
    os.environ[switch] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[switch]
        else:
            os.environ[switch] = before


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _fault(document: Any) -> str:
    """Return the part of a document that PyTorch would run as code, empty if there is none."""
    pending: list[tuple[str, Any]] = [("", document)]
    while pending:
        key, value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.items())
        elif isinstance(value, list):
            pending.extend((key, item) for item in value)
        elif isinstance(value, str) and not _is_harmless(key, value):
            return f"{quoted(value)} as {key}"
    return ""


def _is_harmless(key: str, text: str) -> bool:
    if key == "expr_str":
        return _is_expression(text, _IN_EXPRESSION)
    if key == "guards_code":
        return _is_expression(text, _IN_GUARD)
    if key in _OPERATORS:
        return _OPERATOR.fullmatch(text) is not None and not _NOT_OPERATOR.match(text)
    if key == "path_name":
        return _NAME.fullmatch(text) is not None and not _CODE_ENTRY.search(text)
    return key not in _NAMES or _NAME.fullmatch(text) is not None


def _is_expression(text: str, kinds: tuple[type[ast.AST], ...]) -> bool:
    """Return whether an expression only computes with numbers."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    is_guard = kinds is _IN_GUARD
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            allowed = node.id in _GUARD_NAMES if is_guard else _is_symbol(node, called)
        elif isinstance(node, ast.Constant):
            allowed = not isinstance(node.value, str) or bool(_WORD.fullmatch(node.value))
        elif isinstance(node, ast.Call):
            allowed = isinstance(node.func, ast.Name | ast.Attribute)
        elif isinstance(node, ast.Attribute):
            allowed = is_guard and node.attr in _GUARD_ATTRIBUTES
        else:
            allowed = isinstance(node, kinds)
        if not allowed:
            return False
    return True


def _is_symbol(name: ast.Name, called: set[int]) -> bool:
    rule = _FUNCTION if id(name) in called else _SYMBOL
    return rule.fullmatch(name.id) is not None or name.id in ("True", "False")
