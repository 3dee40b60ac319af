"""Complex tensors as two real ones: Relax has no complex dtype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.fx import Node
from tvm import relax

from relax_tapml.frontend._torch_node import is_complex
from relax_tapml.frontend._torch_ops.emitter import Emitter

# They move elements, or change both parts alike.
_BY_PART = (
    *("alias.default", "cat.default", "clone.default", "expand.default", "flip.default"),
    *("index.Tensor", "neg.default", "permute.default", "select.int", "slice.Tensor"),
    *("squeeze.dim", "squeeze.dims", "unsqueeze.default", "view.default"),
)


@dataclass(frozen=True)
class Complex:
    """What a node with complex values becomes.

    Parameters
    ----------
    real, imag
        Tensors of one shape and dtype.
    """

    real: Any
    imag: Any


class ComplexNumbers(Emitter):
    """Computes with real and imaginary parts, and refuses what it has no formula for."""

    def create_convert_map(self) -> dict[str, Callable[[Node], Any]]:
        """Return the converters by operator name; of real numbers, the others'."""
        stock = super().create_convert_map()
        own = {
            "_conj.default": lambda node: self._conj(*self.retrieve_args(node)),
            "_to_copy.default": self._complex_of,
            "abs.default": lambda node: self._magnitude(*self.retrieve_args(node)),
            "add.Tensor": self._combined(relax.op.add),
            "angle.default": lambda node: self._angle(*self.retrieve_args(node)),
            "complex.default": lambda node: Complex(*self.retrieve_args(node)),
            "mul.Tensor": lambda node: self._times(*self.retrieve_args(node)),
            "polar.default": lambda node: self._polar(*self.retrieve_args(node)),
            "sub.Tensor": self._combined(relax.op.subtract),
            "view_as_complex.default": lambda node: self._joined(*self.retrieve_args(node)),
            "view_as_real.default": lambda node: self._stacked(*self.retrieve_args(node)),
            **{name: self._by_part(stock[name]) for name in _BY_PART},
        }
        names = stock.keys() | own.keys()
        return {name: self._either(stock.get(name), own.get(name)) for name in names}

    def _either(
        self, stock: Callable[[Node], Any] | None, own: Callable[[Node], Any] | None
    ) -> Callable[[Node], Any]:
        def convert(node: Node) -> Any:
            chosen = own if any(map(is_complex, (node, *node.all_input_nodes))) else stock
            if chosen is None:
                raise NotImplementedError("complex numbers")
            return chosen(node)

        return convert

    def _by_part(self, stock: Callable[[Node], Any]) -> Callable[[Node], Any]:
        """Convert twice, with the real and with the imaginary parts."""

        def convert(node: Node) -> Any:
            given = {arg: self.env[arg] for arg in node.all_input_nodes if is_complex(arg)}
            parts = []
            for part in ("real", "imag"):
                with self._replaced({arg: getattr(value, part) for arg, value in given.items()}):
                    parts.append(stock(node))
            return Complex(*parts)

        return convert

    def _parts(self, value: Any, like: Any) -> Complex:
        """Return a real tensor or a number as a complex one."""
        if isinstance(value, Complex):
            return value
        dtype = str(like.real.ty.dtype)
        if isinstance(value, int | float | complex):
            number = complex(value)
            return Complex(relax.const(number.real, dtype), relax.const(number.imag, dtype))
        return Complex(self._cast(value, dtype), relax.const(0, dtype))

    def _conj(self, x: Complex) -> Complex:
        return Complex(x.real, self._emit(relax.op.negative(x.imag)))

    def _complex_of(self, node: Node) -> Complex:
        target: Any = node.meta["val"].dtype
        if not target.is_complex:
            raise NotImplementedError("the real part of complex numbers by a cast")
        dtype = str(target.to_real()).removeprefix("torch.")
        (x,) = self.retrieve_args(node)
        if isinstance(x, Complex):
            return Complex(self._cast(x.real, dtype), self._cast(x.imag, dtype))
        real = self._cast(x, dtype)
        return Complex(real, self._emit(relax.op.zeros_like(real)))

    def _magnitude(self, x: Complex) -> Any:
        squares = [self._emit(relax.op.multiply(part, part)) for part in (x.real, x.imag)]
        return self._emit(relax.op.sqrt(self._emit(relax.op.add(*squares))))

    def _angle(self, x: Complex) -> Any:
        return self._emit(relax.op.atan2(x.imag, x.real))

    def _polar(self, length: Any, angle: Any) -> Complex:
        turned = [self._emit(way(angle)) for way in (relax.op.cos, relax.op.sin)]
        return Complex(*(self._emit(relax.op.multiply(length, part)) for part in turned))

    def _combined(self, operator: Callable[[Any, Any], Any]) -> Callable[[Node], Any]:
        def convert(node: Node) -> Complex:
            a, b = self.retrieve_args(node)
            like = a if isinstance(a, Complex) else b
            first, second = self._parts(a, like), self._parts(b, like)
            return Complex(
                self._emit(operator(first.real, second.real)),
                self._emit(operator(first.imag, second.imag)),
            )

        return convert

    def _times(self, a: Any, b: Any) -> Complex:
        if not isinstance(a, Complex):
            a, b = b, a
        if not isinstance(b, Complex):
            by = self._parts(b, a)
            if not isinstance(b, complex):
                parts = (relax.op.multiply(part, by.real) for part in (a.real, a.imag))
                return Complex(*map(self._emit, parts))
            b = by
        ac, bd, ad, bc = (
            self._emit(relax.op.multiply(x, y))
            for x, y in ((a.real, b.real), (a.imag, b.imag), (a.real, b.imag), (a.imag, b.real))
        )
        return Complex(self._emit(relax.op.subtract(ac, bd)), self._emit(relax.op.add(ad, bc)))

    def _joined(self, x: Any) -> Complex:
        last = len(self.shape_of(x)) - 1
        halves = self._emit(relax.op.split(x, 2, last))
        parts = [self._emit(relax.TupleGetItem(halves, at)) for at in (0, 1)]
        return Complex(*(self._emit(relax.op.squeeze(part, last)) for part in parts))

    def _stacked(self, x: Complex) -> Any:
        return self._emit(relax.op.stack([x.real, x.imag], axis=len(self.shape_of(x.real))))
