"""A kernel in the language of a device, with its launch in comments at the top of its file."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm import tirx
from tvm.ir import PrimType

from relax_tapml.errors import UsageError
from relax_tapml.partition.kernel_interface import KernelInterface, symbols_of
from relax_tapml.targets.toolchain.source_kernel import SourceKernel

LANGUAGES = {".cu": "cuda", ".cl": "opencl"}
"""The target of the files of each suffix."""

_MOST_BYTES = 1 << 22
_LINE = re.compile(r"^\s*//\s*relax-tapml:\s*(\w+)\s+(.*?)\s*$", re.MULTILINE)
_KERNEL = re.compile(
    r"\b(?:__global__|__kernel|kernel)\s[^;{()]*?(?:__\w+__\s*\([^)]*\)\s*)*(\w+)\s*\("
)
_SETTINGS = ("grid", "block", "shared")
_EXAMPLE = "// relax-tapml: grid (s0 + 255) // 256"


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """Source of a kernel, and how it is launched.

    Parameters
    ----------
    path, text, name
        The file, what it holds, and the kernel in it.
    language
        The kind of the target.
    launch
        ``grid``, ``block`` and ``shared`` as the file states them.
    """

    path: Path
    text: str
    name: str
    language: str
    launch: Mapping[str, str]

    @classmethod
    def read(cls, path: Path, name: str) -> SourceFile:
        """Read a file.

        Parameters
        ----------
        path
            Its suffix is one of ``LANGUAGES``.
        name
            The kernel; empty for the only one.

        Raises
        ------
        UsageError
            It has no launch, no such kernel, or several.
        """
        data = path.read_bytes()
        if len(data) > _MOST_BYTES:
            raise UsageError(f"kernel {path}: {len(data)} bytes, at most {_MOST_BYTES} are read")
        text = data.decode("utf-8", errors="replace")
        launch = dict(_LINE.findall(text))
        for key in launch.keys() - set(_SETTINGS):
            raise UsageError(f"kernel {path}: relax-tapml: {key}: expected {', '.join(_SETTINGS)}")
        for key in ("grid", "block"):
            if key not in launch:
                raise UsageError(
                    f"kernel {path}: no {key}. State its launch in comments, such as\n{_EXAMPLE}\n"
                    "// relax-tapml: block 256"
                )
        names = list(dict.fromkeys(_KERNEL.findall(text)))
        if not name and len(names) != 1:
            listed = ", ".join(names) or "none"
            raise UsageError(
                f"kernel {path} has no single kernel, but {listed}; name one: FILE:NAME"
            )
        chosen = name or names[0]
        if chosen not in names:
            raise UsageError(f"kernel {path} has no {chosen}; it has {', '.join(names) or 'none'}")
        language = LANGUAGES[path.suffix]
        if language == "cuda" and 'extern "C"' not in text:
            raise UsageError(f'kernel {path}: declare {chosen} as extern "C" __global__')
        return cls(path=path, text=text, name=chosen, language=language, launch=launch)

    def primfunc(self, own: tirx.PrimFunc, unit: str, target: Any) -> tirx.PrimFunc:
        """Return a PrimFunc that launches it in the place of the kernel of a unit.

        It gets the parameters of that kernel in order, tensors as pointers and numbers by value,
        and then its symbols, each as an ``int`` of 32 bits.

        Raises
        ------
        UsageError
            It is source for another target, or its launch is none for this unit.
        """
        kind = str(target.kind.name)
        if kind != self.language:
            raise UsageError(
                f"--target {kind}: kernel {self.path} is source for target {self.language}"
            )
        if KernelInterface.of(own).offsets:
            raise UsageError(
                f"unit {unit}: its kernel takes tensors that begin at any offset, which source "
                "cannot be given. Write it in TVMScript"
            )
        symbols = symbols_of(own)
        values = [p if isinstance(p.ty, PrimType) else p.data for p in own.params]
        dtypes = [str(p.ty.dtype) if isinstance(p.ty, PrimType) else "handle" for p in own.params]
        launch = [
            *self._extents("grid", symbols, 3),
            *self._extents("block", symbols, 3),
            *(self._extents("shared", symbols, 1) if "shared" in self.launch else ()),
        ]
        kernel = SourceKernel(
            language=self.language,
            source=self.text,
            name=self.name,
            arguments=(*dtypes, *("int32" for _ in symbols)),
            has_shared_memory="shared" in self.launch,
        )
        extents = [*symbols.values(), *launch]
        return kernel.launched_by(own, [*values, *(tirx.Cast("int32", one) for one in extents)])

    def _extents(self, key: str, symbols: Mapping[str, Any], most: int) -> list[Any]:
        """Return what the file states, ones where it states less."""
        text = self.launch[key]
        try:
            tree = ast.parse(text, mode="eval").body
            nodes = tree.elts if isinstance(tree, ast.Tuple) else [tree]
            found = [_expression(node, symbols) for node in nodes]
        except (SyntaxError, ValueError) as error:
            known = ", ".join(symbols) or "it has none"
            raise UsageError(
                f"kernel {self.path}: {key} {text}: {error}. Expected integers, the unit's symbols "
                f"({known}), + - * // %, min, max; such as\n{_EXAMPLE}"
            ) from error
        if not 1 <= len(found) <= most:
            raise UsageError(f"kernel {self.path}: {key} {text}: expected at most {most}")
        return [*found, *(tirx.const(1, "int64") for _ in range(most - len(found)))]


_OPERATORS: dict[type[ast.operator], Any] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: tirx.floordiv,
    ast.Mod: tirx.floormod,
}
_FUNCTIONS = {"min": tirx.min, "max": tirx.max}


def _expression(node: ast.expr, symbols: Mapping[str, Any]) -> Any:
    """Return an expression of TVM for one of Python. Raises ``ValueError`` for other ones."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return tirx.const(node.value, "int64")
    if isinstance(node, ast.Name) and node.id in symbols:
        return tirx.Cast("int64", symbols[node.id])
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _expression(node.left, symbols), _expression(node.right, symbols)
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        function = _FUNCTIONS.get(node.func.id)
        if function is not None and len(node.args) == 2:
            return function(*(_expression(one, symbols) for one in node.args))
    raise ValueError(f"{ast.unparse(node)} is not known")
