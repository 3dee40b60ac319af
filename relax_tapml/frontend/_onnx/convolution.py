"""Convolutions in float64, which onnxruntime lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from relax_tapml.arrays import Array


def convolution(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> Array:
    """Return what ``Conv`` computes.

    Parameters
    ----------
    inputs
        Data (batch, channels, ...), weights (outputs, channels / group, ...), and a bias or None.
    attributes
        Of the node.

    Raises
    ------
    ValueError
        An option is not supported.
    """
    x, w, bias = _operands(inputs)
    rank = x.ndim - 2
    strides, dilations = (attributes.get(k, (1,) * rank) for k in ("strides", "dilations"))
    extents = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    pads = _pads(attributes, x.shape[2:], strides, extents)
    group = attributes.get("group", 1)
    return _biased(_convolved(_padded(x, pads), w, group, strides, dilations), bias)


def transposed_convolution(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> Array:
    """Return what ``ConvTranspose`` computes; as ``convolution``, for other weights: (channels,
    outputs / group, ...).
    """
    x, w, bias = _operands(inputs)
    rank = x.ndim - 2
    if "output_shape" in attributes or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ValueError("the size is not given by pads")
    strides, dilations = (attributes.get(k, (1,) * rank) for k in ("strides", "dilations"))
    pads = attributes.get("pads", (0,) * (2 * rank))
    more = attributes.get("output_padding", (0,) * rank)
    group = attributes.get("group", 1)
    size = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], strides, strict=True)]
    apart = np.zeros((*x.shape[:2], *size))
    apart[(slice(None), slice(None), *(slice(None, None, s) for s in strides))] = x
    extents = [(k - 1) * d for k, d in zip(w.shape[2:], dilations, strict=True)]
    around = [
        (extent - pads[at], extent - pads[rank + at] + more[at])
        for at, extent in enumerate(extents)
    ]
    by_group = w.reshape(group, w.shape[0] // group, *w.shape[1:])
    swapped = np.swapaxes(by_group, 1, 2).reshape(-1, w.shape[0] // group, *w.shape[2:])
    flipped = np.flip(swapped, axis=tuple(range(2, w.ndim)))
    result = _convolved(_padded(apart, around), flipped, group, (1,) * rank, dilations)
    return _biased(result, bias)


def _operands(inputs: Sequence[Array | None]) -> tuple[Array, Array, Array | None]:
    x, w, bias = [*inputs, None][:3]
    assert x is not None
    assert w is not None
    return x, w, bias


def _pads(
    attributes: Mapping[str, Any], sizes: Sequence[int], strides: Sequence[int], extents: Any
) -> list[tuple[int, int]]:
    rank, mode = len(sizes), attributes.get("auto_pad", b"NOTSET")
    if mode == b"NOTSET":
        pads = attributes.get("pads", (0,) * (2 * rank))
        return [(pads[at], pads[rank + at]) for at in range(rank)]
    if mode == b"VALID":
        return [(0, 0)] * rank
    found = []
    for size, stride, extent in zip(sizes, strides, extents, strict=True):
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        less, more = total // 2, total - total // 2
        found.append((less, more) if mode == b"SAME_UPPER" else (more, less))
    return found


def _padded(x: Array, pads: Sequence[tuple[int, int]]) -> Array:
    """Pad the spatial axes with zeros; negative pads cut."""
    x = np.pad(x, [(0, 0), (0, 0), *((max(a, 0), max(b, 0)) for a, b in pads)])
    cut = (slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape[2:], pads, strict=True))
    return x[(slice(None), slice(None), *cut)]


def _convolved(
    x: Array, w: Array, group: int, strides: Sequence[int], dilations: Sequence[int]
) -> Array:
    rank, batch = x.ndim - 2, x.shape[0]
    extents = tuple((k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True))
    spatial = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(x, extents, spatial)
    chosen = [slice(None, None, s) for s in strides] + [slice(None, None, d) for d in dilations]
    windows = windows[(slice(None), slice(None), *chosen)]
    out = windows.shape[2 : 2 + rank]
    windows = windows.reshape(batch, group, x.shape[1] // group, *windows.shape[2:])
    # (batch, group, out..., channels x kernel) @ (group, channels x kernel, outputs)
    order = (0, 1, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
    columns = windows.transpose(order).reshape(batch, group, int(np.prod(out)), -1)
    weights = w.reshape(group, w.shape[0] // group, -1).transpose(0, 2, 1)
    result = (columns @ weights).transpose(0, 1, 3, 2)
    return result.reshape(batch, w.shape[0], *out)


def _biased(result: Array, bias: Array | None) -> Array:
    return result if bias is None else result + bias.reshape(-1, *(1,) * (result.ndim - 2))
