"""Discrete Fourier transforms, as products with matrices of cosines and sines."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from torch.fx import Node
from tvm import relax

from relax_tapml.frontend._torch_ops.complex_numbers import Complex, ComplexNumbers

_NO_NORM, _BY_ROOT, _BY_SIZE = range(3)
# The matrices have as many rows and columns, as a fast transform would not.
_MOST_POINTS = 4096


class Fourier(ComplexNumbers):
    """Transforms along any axes; TVM has no transform."""

    def create_convert_map(self) -> dict[str, Callable[[Node], Any]]:
        """Return the converters by operator name."""
        return {
            **super().create_convert_map(),
            "_fft_c2c.default": self._fft_c2c,
            "_fft_c2r.default": self._fft_c2r,
            "_fft_r2c.default": self._fft_r2c,
        }

    def _fft_r2c(self, node: Node) -> Complex:
        x, axes, norm, is_half = self.retrieve_args(node)
        points = self._points(x, axes)
        angles = _angles(points[-1], points[-1] // 2 + 1 if is_half else points[-1])
        scale = _scale(norm, math.prod(points))
        value = Complex(
            self._along(x, axes[-1], scale * np.cos(angles)),
            self._along(x, axes[-1], -scale * np.sin(angles)),
        )
        return self._turned(value, axes[:-1], 1.0, is_forward=True)

    def _fft_c2c(self, node: Node) -> Complex:
        x, axes, norm, is_forward = self.retrieve_args(node)
        scale = _scale(norm, math.prod(self._points(x.real, axes)))
        return self._turned(x, axes, scale, is_forward=is_forward)

    def _fft_c2r(self, node: Node) -> Any:
        """Make real numbers of the half of a transform that PyTorch has of them."""
        x, axes, norm, size = self.retrieve_args(node)
        *others, half = self._points(x.real, axes)
        if half != size // 2 + 1 or size > _MOST_POINTS:
            raise NotImplementedError(f"{size} points of {half}")
        x = self._turned(x, axes[:-1], 1.0, is_forward=False)
        angles = _angles(size, half).T
        # The other half has the same real parts; the ends have no other.
        times = np.full((half, 1), 2.0)
        times[0] = 1
        if size % 2 == 0:
            times[-1] = 1
        times *= _scale(norm, math.prod((*others, size)))
        matrix = np.concatenate([times * np.cos(angles), -times * np.sin(angles)])
        return self._along(self._both(x, axes[-1]), axes[-1], matrix)

    def _turned(self, x: Complex, axes: Any, scale: float, *, is_forward: bool) -> Complex:
        for axis in axes:
            (points,) = self._points(x.real, [axis])
            angles = _angles(points, points)
            cosines, sines = scale * np.cos(angles), scale * np.sin(angles)
            sines = -sines if is_forward else sines
            both = self._both(x, axis)
            x = Complex(
                self._along(both, axis, np.concatenate([cosines, -sines])),
                self._along(both, axis, np.concatenate([sines, cosines])),
            )
            scale = 1.0
        return x

    def _both(self, x: Complex, axis: int) -> Any:
        return self._emit(relax.op.concat([x.real, x.imag], axis))

    def _along(self, x: Any, axis: int, matrix: Any) -> Any:
        """Multiply one axis by a matrix."""
        rank = len(self.shape_of(x))
        order = [at for at in range(rank) if at != axis % rank] + [axis % rank]
        is_last = order == [*range(rank)]
        turned = x if is_last else self._emit(relax.op.permute_dims(x, order))
        weight = relax.const(matrix, str(x.ty.dtype))
        product = self._emit(relax.op.matmul(turned, weight))
        back = [order.index(at) for at in range(rank)]
        return product if is_last else self._emit(relax.op.permute_dims(product, back))

    def _points(self, x: Any, axes: Any) -> list[int]:
        shape = self.shape_of(x)
        points = [shape[axis] for axis in axes]
        symbolic = [extent for extent in points if not hasattr(extent, "value")]
        if symbolic:
            raise NotImplementedError(f"a transform of {symbolic[0]} points")
        numbers = [int(extent) for extent in points]
        if max(numbers) > _MOST_POINTS:
            raise NotImplementedError(
                f"a transform of {max(numbers)} points, more than {_MOST_POINTS}"
            )
        return numbers


def _angles(points: int, frequencies: int) -> Any:
    """Return the angle of each point at each frequency."""
    turns = np.outer(np.arange(points), np.arange(frequencies)) % points
    return turns * (2 * np.pi / points)


def _scale(norm: int, points: int) -> float:
    scales: dict[int, float] = {_NO_NORM: 1.0, _BY_ROOT: points**-0.5, _BY_SIZE: 1 / points}
    return scales[norm]
