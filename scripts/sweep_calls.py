"""Calls of PyTorch's core operators, recorded from PyTorch's own samples.

A sample of an operator that is not a core one is decomposed as ``torch.export`` decomposes it, and
the core operators that it calls are recorded.
"""

from __future__ import annotations

import random
import sys
import types
import unittest
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DTYPES = (torch.float32, torch.int64, torch.bool, torch.float16, torch.bfloat16)
_MOST_ELEMENTS = 20_000
_MOST_SAMPLES = 12  # Of an operator and a dtype.
_MOST_KEPT = 400  # Of a core operator, before some are chosen.


@dataclass(frozen=True, kw_only=True)
class CoreCall:
    """One call of a core operator.

    Parameters
    ----------
    operator
        ``aten.add.Tensor``.
    args, kwargs
        Its arguments.
    origin
        The operator of PyTorch's samples that it comes from.
    item
        Which of several results is used; None for all.
    """

    operator: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    origin: str
    item: int | None = None

    @property
    def text(self) -> str:
        """Dtypes and shapes of tensors, and all other arguments."""
        parts = [_text(arg) for arg in self.args]
        parts += [f"{name}={_text(arg)}" for name, arg in self.kwargs.items()]
        return f"({', '.join(parts)})" + ("" if self.item is None else f"[{self.item}]")

    @property
    def kind(self) -> tuple[str, ...]:
        """What calls of one kind share: dtypes and numbers of dimensions, and other arguments."""
        return tuple(
            f"{leaf.dtype}{leaf.ndim}" if isinstance(leaf, torch.Tensor) else str(leaf)
            for leaf in tree_leaves((self.args, dict(self.kwargs)))
        )


def core_operators() -> dict[str, Any]:
    """Return the overloads that PyTorch marks as core, by name."""
    found = {}
    for name in sorted(dir(torch.ops.aten)):
        packet = getattr(torch.ops.aten, name)
        for overload in getattr(packet, "overloads", list)():
            operator = getattr(packet, overload)
            if torch.Tag.core in operator.tags:
                found[str(operator)] = operator
    return found


def recorded_calls(
    operators: Mapping[str, Any], most: int, only: Sequence[str] = ()
) -> dict[str, list[CoreCall]]:
    """Return up to ``most`` calls of each operator, of as many kinds as possible.

    ``only`` names operators of PyTorch's samples; all by default.
    """
    recorder = _Recorder(operators)
    for info in _op_infos():
        if not only or info.name in only:
            _record(info, recorder)
    for call in _by_hand():
        recorder.calls[call.operator].append(call)
    chosen = {
        name: _chosen(calls, most, random.Random(name)) for name, calls in recorder.calls.items()
    }
    # Many models use the first of several results only, which may be right when others are refused.
    for name, calls in chosen.items():
        if len(operators[name]._schema.returns) > 1:
            calls += [replace(call, item=0) for call in calls]
    return chosen


def _by_hand() -> Iterator[CoreCall]:
    """Yield calls of operators that no sample calls."""
    torch.manual_seed(0)
    x, row, whole = torch.randn(2, 3, 4, 5), torch.rand(3) + 0.5, torch.arange(12).reshape(3, 4)
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("_native_batch_norm_legit_no_training.default", (x, row, row, row, row, 0.1, 1e-5)),
        ("_native_batch_norm_legit_no_training.default", (x, None, None, row, row, 0.1, 1e-3)),
        ("_fft_c2r.default", (torch.randn(3, 4, dtype=torch.complex64), [1], 0, 6)),
        *((f"bitwise_{name}.Scalar", (whole, 6)) for name in ("and", "or", "xor")),
        ("copy.default", (x, x[0])),
        ("copy.default", (x, whole[0, :1])),
        ("fmod.Scalar", (x * 9, 2.5)),
        ("fmod.Scalar", (whole - 6, 4)),
        ("native_dropout.default", (x, 0.5, False)),
        ("randperm.default", (10,)),
        *(("var.dim", (x, dims, unbiased)) for dims in ([1], [0, 3], None) for unbiased in (0, 1)),
        *(("select.int", (x, axis, at)) for axis, at in ((1, -1), (-1, -5), (0, 1))),
        *(
            (f"upsample_{name}.vec", (x, size, *middle, scale))
            for name, corners in (("nearest2d", ((),)), ("bilinear2d", ((True,), (False,))))
            for middle in corners
            for size, scale in (
                ([8, 7], None),
                ([2, 3], None),
                (None, [2.0, 2.0]),
                (None, [1.5, 0.6]),
                (None, [1.3, 1.7]),
            )
        ),
    ]
    for name, args in calls:
        yield CoreCall(operator=f"aten.{name}", args=args, kwargs={}, origin="by hand")
    for mode in ("floor", "trunc"):
        for values in (x * 9, whole - 6):
            yield CoreCall(
                operator="aten.div.Scalar_mode",
                args=(values, 2.5),
                kwargs={"rounding_mode": mode},
                origin="by hand",
            )


def _op_infos() -> list[Any]:
    if "expecttest" not in sys.modules:
        # PyTorch's test cases derive from its class; no test runs here.
        stand_in: Any = types.ModuleType("expecttest")
        stand_in.TestCase = unittest.TestCase
        stand_in.assert_expected_inline = None
        sys.modules["expecttest"] = stand_in
    from torch.testing._internal.common_methods_invocations import op_db

    return list(op_db)


def _record(info: Any, recorder: _Recorder) -> None:
    for dtype in DTYPES:
        if dtype not in info.supported_dtypes("cpu"):
            continue
        for requires_grad in (False, True) if dtype is torch.float32 else (False,):
            try:
                torch.manual_seed(0)
                samples = info.sample_inputs("cpu", dtype, requires_grad=requires_grad)
                for _, sample in zip(range(_MOST_SAMPLES), samples, strict=False):
                    _run(info, sample, recorder, is_backward=requires_grad)
            except Exception:
                continue


def _run(info: Any, sample: Any, recorder: _Recorder, *, is_backward: bool) -> None:
    sizes = [leaf.numel() for leaf in tree_leaves(sample.input) if isinstance(leaf, torch.Tensor)]
    if sum(sizes) > _MOST_ELEMENTS:
        return
    recorder.origin = info.name
    try:
        with warnings.catch_warnings(), recorder:
            warnings.simplefilter("ignore")
            found = info.op(sample.input, *sample.args, **sample.kwargs)
            if is_backward:
                leaves = [leaf for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]
                sum(leaf.sum() for leaf in leaves if leaf.requires_grad).backward()
    except Exception:  # What PyTorch refuses, or cannot differentiate.
        return


class _Recorder(TorchDispatchMode):
    """Keeps the calls of core operators, and decomposes others."""

    def __init__(self, operators: Mapping[str, Any]) -> None:
        super().__init__()
        self.origin = ""
        self.calls: dict[str, list[CoreCall]] = {name: [] for name in operators}
        self._decompositions = torch.export.default_decompositions()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        calls = self.calls.get(str(func))
        if calls is None:
            decomposition = self._decompositions.get(func)
            if decomposition is not None:
                with self:
                    found = decomposition(*args, **kwargs)
                if found is not NotImplemented:
                    return found
        elif len(calls) < _MOST_KEPT and _is_plain((args, kwargs)):
            kept_args, kept_kwargs = tree_map(_kept, (tuple(args), kwargs))
            calls.append(
                CoreCall(operator=str(func), args=kept_args, kwargs=kept_kwargs, origin=self.origin)
            )
        return func(*args, **kwargs)


def _is_plain(values: Any) -> bool:
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    return (
        sum(tensor.numel() for tensor in tensors) <= _MOST_ELEMENTS
        and all(tensor.dtype in (*DTYPES, torch.int32, torch.float64) for tensor in tensors)
        and all(tensor.layout is torch.strided for tensor in tensors)
        and not any(isinstance(leaf, torch.Generator) for leaf in tree_leaves(values))
    )


def _kept(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _chosen(calls: Sequence[CoreCall], most: int, draw: random.Random) -> list[CoreCall]:
    """Return calls of different kinds first, each text once."""
    by_kind: dict[tuple[str, ...], dict[str, CoreCall]] = {}
    for call in calls:
        by_kind.setdefault(call.kind, {}).setdefault(call.text, call)
    queues = [list(texts.values()) for texts in by_kind.values()]
    draw.shuffle(queues)
    return [call for _, call in zip(range(most), _in_turn(queues), strict=False)]


def _in_turn(queues: Sequence[list[CoreCall]]) -> Iterator[CoreCall]:
    for place in range(max(map(len, queues), default=0)):
        yield from (queue[place] for queue in queues if place < len(queue))


def _text(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return str(value)
