"""What a kernel takes and what it may write to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import PrimType

from relax_tapml.passes.outline_runtime_callbacks import written_params


@dataclass(frozen=True, kw_only=True)
class KernelInterface:
    """The parameters of a kernel, with its symbols numbered in the order in which they appear.

    Parameters
    ----------
    params
        Each as text: ``float16[s0, 4, 8]``, ``int32``; with ``strides`` where it has them.
    offsets
        Numbers of the buffers that may begin anywhere in their memory.
    written
        Numbers of the parameters that it may write to.
    """

    params: tuple[str, ...]
    offsets: frozenset[int]
    written: tuple[int, ...]

    @classmethod
    def of(cls, kernel: tirx.PrimFunc) -> KernelInterface:
        """Return the interface of a kernel."""
        symbols: dict[Any, str] = {}
        types = [param.ty for param in kernel.params]
        return cls(
            params=tuple(_param_text(ty, symbols) for ty in types),
            offsets=frozenset(n for n, ty in enumerate(types) if _has_offset(ty)),
            written=tuple(written_params(kernel)),
        )

    def fits(self, other: KernelInterface) -> bool:
        """Whether the kernel can be called as the one of another interface is."""
        return (
            self.params == other.params
            and self.written == other.written
            # One that takes any offset takes none, too.
            and self.offsets >= other.offsets
        )

    def __str__(self) -> str:
        return "(" + ", ".join(map(self._text, range(len(self.params)))) + ")"

    def _text(self, number: int) -> str:
        written = "writes " if number in self.written else ""
        offset = " at any offset" if number in self.offsets else ""
        return f"{written}{self.params[number]}{offset}"


def symbols_of(kernel: tirx.PrimFunc) -> dict[str, Any]:
    """Return the symbols of a kernel's parameters by the names that its interface gives them."""
    symbols: dict[Any, str] = {}
    for param in kernel.params:
        _param_text(param.ty, symbols)
    return {name: var for var, name in symbols.items()}


def _param_text(ty: tvm.ir.Type, symbols: dict[Any, str]) -> str:
    if isinstance(ty, PrimType):
        return str(ty.dtype)
    if not hasattr(ty, "shape"):
        return str(ty)
    shape = ", ".join(_extent_text(extent, symbols) for extent in ty.shape)
    text = f"{ty.dtype}[{shape}]"
    strides = getattr(ty, "strides", None)
    if strides:
        listed = ", ".join(_extent_text(stride, symbols) for stride in strides)
        text += f" strides [{listed}]"
    return text


def _extent_text(extent: Any, symbols: dict[Any, str]) -> str:
    if isinstance(extent, tirx.IntImm | int):
        return str(int(extent))

    def named(var: Any) -> Any:
        name = symbols.setdefault(var, f"s{len(symbols)}")
        return tirx.Var(name, str(var.ty.dtype))

    return str(tvm_ffi.structural_map(extent, (tirx.Var, named)))


def _has_offset(ty: tvm.ir.Type) -> bool:
    offset = getattr(ty, "elem_offset", None)
    is_free = offset is not None and not isinstance(offset, tirx.IntImm)
    return is_free and int(getattr(ty, "offset_factor", 1) or 1) == 1
