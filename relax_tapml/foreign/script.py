"""Check that the printed source of a module is TVMScript and no other Python code.

TVM evaluates the TVMScript that it reads, and a script that holds a module is run. A module prints
names and keys without escapes, so the source is checked as Python before either happens.
"""

from __future__ import annotations

import ast
import typing
from types import ModuleType
from typing import Any

import tvm.script

_HOME = "tvm.script"
_FORMS = (
    *(ast.Module, ast.ClassDef, ast.FunctionDef, ast.Lambda, ast.arguments, ast.arg, ast.Return),
    *(ast.With, ast.withitem, ast.For, ast.While, ast.If, ast.Pass, ast.Break, ast.Continue),
    *(ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Assert, ast.Expr, ast.Call, ast.keyword),
    *(ast.Attribute, ast.Name, ast.Constant, ast.Subscript, ast.Slice, ast.Starred, ast.IfExp),
    *(ast.Tuple, ast.List, ast.Dict, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context, ast.ImportFrom),
    ast.alias,
)
# What printed modules import, by the module and the name in it.
_IMPORTS: dict[tuple[str | None, str], Any] = {
    ("typing", "TypeVar"): typing.TypeVar,
    **{(_HOME, name): getattr(tvm.script, name) for name in ("ir", "relax", "tirx")},
    # Not every release has layouts.
    ("tvm.tirx.layout", "Axis"): getattr(getattr(tvm.tirx, "layout", None), "Axis", None),
}
# Modules among the attributes of those that printed modules use.
_OPERATORS = (
    *("tvm.relax.op", "tvm.relax.script.parser.dist", "tvm.script.parser.relax.dist"),
    "tvm.tirx.script.tile",
)
# Called by a plain name.
_CALLED = frozenset({"range", "TypeVar"})


def script_fault(source: str) -> str:
    """Return what in a source is not TVMScript, empty if all of it is.

    Parameters
    ----------
    source
        The output of ``IRModule.script``, with its imports.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"it is no Python: {type(error).__name__}"
    homes: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom):
            for name in statement.names:
                if (statement.module, name.name) not in _IMPORTS or statement.level:
                    return f"it imports {name.name} from {statement.module}"
                homes[name.asname or name.name] = _IMPORTS[statement.module, name.name]
    bound = _bound(tree)
    if bound & (homes.keys() | _CALLED):
        return "it redefines a name of TVMScript"
    return next(filter(None, (_fault(node, homes, bound) for node in ast.walk(tree))), "")


def _fault(node: ast.AST, homes: dict[str, Any], bound: set[str]) -> str:
    if not isinstance(node, _FORMS):
        return f"it has a form that TVMScript does not print: {type(node).__name__}"
    if isinstance(node, ast.Name) and node.id not in bound | homes.keys() | {"range"}:
        return f"it uses the name {node.id}"
    if isinstance(node, ast.Attribute):
        return _attribute_fault(node, homes)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        # TVMScript calls no variable.
        return "" if node.func.id in _CALLED else f"it calls {node.func.id}"
    if isinstance(node, ast.Call) and not isinstance(node.func, ast.Attribute):
        return f"it calls a {type(node.func).__name__}"
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.decorator_list:
        return f"it defines {node.name}, which is plain Python"
    return ""


def _attribute_fault(node: ast.Attribute, homes: dict[str, Any]) -> str:
    """Refuse attributes outside of TVMScript: its modules have other modules as attributes."""
    names = [node.attr]
    root: ast.expr = node.value
    while isinstance(root, ast.Attribute):
        names.append(root.attr)
        root = root.value
    if any(name.startswith("__") for name in names):
        return f"it uses the attribute {names[0]}"
    if not isinstance(root, ast.Name | ast.Call | ast.Subscript):
        return f"it uses an attribute of a {type(root).__name__}"
    if isinstance(root, ast.Name) and root.id in homes:
        found = homes[root.id]
        for name in reversed(names):
            found = getattr(found, name, None)
            is_other = isinstance(found, ModuleType) and not found.__name__.startswith(_OPERATORS)
            if name.startswith("_") or is_other:
                return f"it uses {root.id}.{name}"
    return ""


def _bound(tree: ast.AST) -> set[str]:
    """Return the names that a source defines."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
    return found
