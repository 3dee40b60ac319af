"""The inputs of a graph, the sizes of their dimensions, and samples that are checked against them.

For frontends whose files give each input a name, a dtype and a shape, of which some sizes may be
open.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.errors import UsageError
from relax_tapml.frontend.inputs import as_samples
from relax_tapml.frontend.model import Sample
from relax_tapml.printable import names_text, printable

SEED = 0
_FIRST, _OTHER = 1, 64
"""The sizes of dimensions without one: a batch, and a multiple of what models halve."""
_MANY = 8
_LONGEST = 512
"""Of the text of a dimension: longer ones are nested too deeply to be read."""
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.floordiv,
}

Size = Any
"""An int, or an expression of TVM."""


@dataclass(frozen=True)
class Dim:
    """A dimension without a fixed size.

    Parameters
    ----------
    text
        ``batch``; an expression of such names, ``past + 1``; or ``x.2`` where the file has no name
        for dimension 2 of input ``x``.
    names
        The names in it.
    """

    text: str
    names: tuple[str, ...]

    def size(self, sizes: Mapping[str, Size]) -> Size:
        """Return its size, given those of its names."""
        if self.names == (self.text,):
            return sizes[self.text]
        try:
            size = self.value(sizes)
        except ZeroDivisionError as error:
            raise UsageError(
                f"dimension {printable(self.text)} divides by zero. Give other sizes with "
                "--dim NAME=VALUE, or export the model again."
            ) from error
        if isinstance(size, int) and not 0 <= size < 1 << 63:
            raise UsageError(
                f"dimension {printable(self.text)} would be {size}. Give other sizes with "
                "--dim NAME=VALUE, or other inputs."
            )
        return size

    def value(self, sizes: Mapping[str, Size]) -> Size:
        """Return the value of its expression, which may be no size."""
        return _evaluated(ast.parse(self.text, mode="eval").body, sizes)


@dataclass(frozen=True, kw_only=True)
class GraphInput:
    """An input that a caller gives; those with a default in the file are not among them."""

    name: str
    dtype: str
    dims: tuple[int | Dim, ...]

    def shape(self, sizes: Mapping[str, Size]) -> tuple[Size, ...]:
        """Return its shape, given the sizes of the named dimensions."""
        return tuple(dim.size(sizes) if isinstance(dim, Dim) else dim for dim in self.dims)

    @property
    def text(self) -> str:
        """``float32 x[batch, 3, 224, 224]``."""
        dims = [dim.text if isinstance(dim, Dim) else str(dim) for dim in self.dims]
        return printable(f"{self.dtype} {self.name}[{', '.join(dims)}]")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The values that each named dimension takes.

    Parameters
    ----------
    values
        By name; one value, or several in the order of the samples.
    defaults
        The names whose value nobody gave.
    """

    values: Mapping[str, tuple[int, ...]]
    defaults: tuple[str, ...] = ()

    @property
    def fixed(self) -> dict[str, int]:
        """The dimensions with one value."""
        return {name: values[0] for name, values in self.values.items() if len(set(values)) == 1}

    def of_sample(self, number: int) -> dict[str, int]:
        """Return the sizes of a drawn sample: each dimension goes through its values."""
        return {name: values[number % len(values)] for name, values in self.values.items()}

    @property
    def count(self) -> int:
        """How many samples show every value."""
        return max((len(values) for values in self.values.values()), default=1)


def dim_named(text: str, unnamed: str) -> Dim:
    """Return a dimension by the text that a file has for it; ``unnamed`` if that is no name.

    Raises
    ------
    UsageError
        The text is too long.
    """
    if not re.search(r"[A-Za-z_]", text):  # Some exporters write -1 or ?.
        return Dim(unnamed, (unnamed,))
    if len(text) > _LONGEST:
        raise UsageError(
            f"dimension {printable(unnamed)} is a text of {len(text)} characters, expected at most "
            f"{_LONGEST}: {printable(text[:60])}.... Export the model with names of dimensions."
        )
    try:
        tree = ast.parse(text, mode="eval").body
        if isinstance(tree, ast.BinOp):
            return Dim(text, tuple(dict.fromkeys(_names(tree))))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        pass
    return Dim(text, (text,))


def _names(tree: ast.expr) -> Iterator[str]:
    match tree:
        case ast.BinOp(left=left, right=right, op=op) if type(op) in _OPERATORS:
            yield from _names(left)
            yield from _names(right)
        case ast.Name(id=name):
            yield name
        case ast.Constant(value=int()):
            pass
        case _:
            raise ValueError(ast.dump(tree))


def _evaluated(tree: ast.expr, sizes: Mapping[str, Size]) -> Size:
    match tree:
        case ast.BinOp(left=left, right=right, op=op):
            divisor = _evaluated(right, sizes)
            if isinstance(divisor, int) and not divisor and isinstance(op, ast.Div | ast.FloorDiv):
                raise ZeroDivisionError  # TVM raises another error.
            return _OPERATORS[type(op)](_evaluated(left, sizes), divisor)
        case ast.Name(id=name):
            return sizes[name]
        case ast.Constant(value=int() as value):
            return value
    raise ValueError(ast.dump(tree))


def dim_names(inputs: Sequence[GraphInput]) -> list[str]:
    """Return the names of the dimensions that have no fixed size, in order."""
    return list(
        dict.fromkeys(
            name for one in inputs for dim in one.dims if isinstance(dim, Dim) for name in dim.names
        )
    )


def check_dims(inputs: Sequence[GraphInput], dims: Mapping[str, Sequence[int]]) -> None:
    """Check the sizes that a user gave.

    Raises
    ------
    UsageError
        A name is none of a dimension of the model, which are listed; or a size is negative.
    """
    names = dim_names(inputs)
    unknown = [name for name in dims if name not in names]
    if unknown:
        has = (
            f"it has {', '.join(map(printable, names))}" if names else "all of its sizes are fixed"
        )
        raise UsageError(
            f"no dimension of the model is called {', '.join(map(printable, unknown))}; {has} "
            f"(inputs: {'; '.join(one.text for one in inputs)}). Name one of these: "
            "--dim NAME=VALUE"
        )
    for name, values in dims.items():
        if not values or any(value < 0 for value in values):
            raise UsageError(
                f"dimension {printable(name)}: expected sizes, got "
                f"{', '.join(map(str, values)) or 'none'}. Give one or more: --dim {name}=1,8"
            )


def default_sizes(inputs: Sequence[GraphInput], dims: Mapping[str, Sequence[int]]) -> Sizes:
    """Return the values of all named dimensions for samples that are drawn.

    A dimension without a given size is 1 if it is the first of an input, otherwise 64.
    """
    first = {one.dims[0].text for one in inputs if one.dims and isinstance(one.dims[0], Dim)}
    names = dim_names(inputs)
    return Sizes(
        values={
            name: tuple(dims.get(name, (_FIRST if name in first else _OTHER,))) for name in names
        },
        defaults=tuple(name for name in names if name not in dims),
    )


def sizes_of_samples(
    inputs: Sequence[GraphInput], samples: Sequence[Sample], dims: Mapping[str, Sequence[int]]
) -> Sizes:
    """Check samples against the inputs, and return the sizes that they have.

    Raises
    ------
    UsageError
        A sample has another number of arrays, or an array another dtype, rank or fixed size; or two
        dimensions of one name differ; or a size is none of those given for it.
    """
    found: dict[str, list[int]] = {name: [] for name in dim_names(inputs)}
    for sample in samples:
        if len(sample.arrays) != len(inputs):
            raise UsageError(
                f"{sample.name}: expected {len(inputs)} arrays "
                f"({'; '.join(one.text for one in inputs)}), got {len(sample.arrays)}."
            )
        sizes: dict[str, int] = {}
        for one, array in zip(inputs, sample.arrays, strict=True):
            _check_array(one, array, sizes, f"{sample.name}: input '{printable(one.name)}'")
        for one, array in zip(inputs, sample.arrays, strict=True):
            _check_expressions(one, array, sizes, f"{sample.name}: input '{printable(one.name)}'")
        for name, size in sizes.items():
            given = dims.get(name)
            if given is not None and size not in given:
                raise UsageError(
                    f"{sample.name}: {printable(name)} is {size}, but --dim says "
                    f"{', '.join(map(str, given))}. Leave --dim out: sizes are those of the inputs."
                )
            found[name].append(size)
    return Sizes(values={name: tuple(sizes) or (_FIRST,) for name, sizes in found.items()})


def _check_array(one: GraphInput, array: Array, sizes: dict[str, int], where: str) -> None:
    if array.dtype.name != one.dtype:
        raise UsageError(
            f"{where}: expected {one.dtype}, got {array.dtype.name}. Convert it: "
            f"array.astype('{one.dtype}')."
        )
    if array.ndim != len(one.dims):
        raise UsageError(
            f"{where}: expected {len(one.dims)} dimensions ({one.text}), got {array.ndim} "
            f"({list(array.shape)})."
        )
    for axis, (dim, size) in enumerate(zip(one.dims, array.shape, strict=True)):
        if isinstance(dim, Dim):
            if dim.names != (dim.text,):
                continue
            expected, name = sizes.setdefault(dim.text, size), f" ({printable(dim.text)})"
        else:
            expected, name = dim, ""
        if expected != size:
            raise UsageError(
                f"{where}: expected {expected} in dimension {axis}{name}, got {size}: {one.text}, "
                f"shape {list(array.shape)}."
            )


def _check_expressions(one: GraphInput, array: Array, sizes: dict[str, int], where: str) -> None:
    for axis, (dim, size) in enumerate(zip(one.dims, array.shape, strict=True)):
        if not isinstance(dim, Dim) or dim.names == (dim.text,):
            continue
        missing = [name for name in dim.names if name not in sizes]
        if missing:
            solved = _solved(dim, missing[0], size, sizes) if len(missing) == 1 else None
            if solved is None:
                raise UsageError(
                    f"{where}: dimension {axis} is {printable(dim.text)}, and no input has "
                    f"{names_text(missing)} as a dimension. Give --dim {missing[0]}=VALUE."
                )
            sizes[missing[0]] = solved
        if dim.size(sizes) != size:
            raise UsageError(
                f"{where}: expected {printable(dim.text)} = {dim.size(sizes)} in dimension {axis}, "
                f"got {size}."
            )


def _solved(dim: Dim, name: str, size: int, sizes: Mapping[str, int]) -> int | None:
    """Return the value of the one unknown name of an expression that is linear in it."""
    try:
        zero, one = (dim.value({**sizes, name: value}) for value in (0, 1))
        value = (size - zero) // (one - zero) if one != zero else -1
        return value if value >= 0 and dim.value({**sizes, name: value}) == size else None
    except ZeroDivisionError:
        return None


def as_samples_by_name(items: Sequence[Any], inputs: Sequence[GraphInput]) -> tuple[Sample, ...]:
    """Return samples; arrays by name, and sequences of arrays, are put in order.

    Raises
    ------
    UsageError
        Names are none of the inputs', or one is missing.
    """
    samples: list[Sample] = []
    for number, item in enumerate(items):
        if isinstance(item, Mapping):
            arrays = in_order(item, inputs, f"input {number}")
            samples.extend(as_samples([arrays]))
            samples[-1] = Sample(name=f"input {number}", arrays=samples[-1].arrays)
        else:
            samples.extend(as_samples([item]))
    return tuple(samples)


def in_order(
    arrays: Mapping[str, Any], inputs: Sequence[GraphInput], where: str
) -> tuple[Any, ...]:
    """Return arrays in the order of the inputs, by name; or ``arr_0``, ``arr_1``, by position.

    Raises
    ------
    UsageError
        An input is missing, or there is an array of no input.
    """
    for names in ([one.name for one in inputs], [f"arr_{at}" for at in range(len(inputs))]):
        if arrays.keys() == set(names):
            return tuple(arrays[name] for name in names)
    raise UsageError(
        f"{where}: expected the inputs of the model, {'; '.join(one.text for one in inputs)}; got "
        f"{', '.join(sorted(map(printable, arrays))) or 'none'}. Name the arrays so, or arr_0, "
        "arr_1, ... in order."
    )


def as_sizes(dims: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return one size or several of each dimension; integers of NumPy are some, too.

    Raises
    ------
    UsageError
        One is no integer.
    """
    return {key: _as_sizes(key, size) for key, size in dims.items()}


def _as_sizes(name: str, given: Any) -> tuple[int, ...]:
    try:
        return tuple(map(operator.index, given if isinstance(given, Iterable) else [given]))
    except TypeError as error:
        raise UsageError(
            f"dimension {printable(name)}: expected sizes, which are integers, got "
            f"{printable(repr(given))}. Give one or more: dims={{'{printable(name)}': (1, 8)}}"
        ) from error


def drawn_array(
    random: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...], limit: int
) -> Array:
    """Return normal floats, booleans, or integers below a limit."""
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        return random.integers(0, limit, shape).astype(dtype)
    return random.standard_normal(shape).astype(np.float32).astype(dtype)


def size_notes(inputs: Sequence[GraphInput], sizes: Sizes, is_drawn: bool) -> list[str]:
    """Return sentences for people about what nobody has chosen."""
    notes = []
    if sizes.defaults:
        chosen = [f"{printable(name)}={sizes.values[name][0]}" for name in sizes.defaults]
        notes.append(
            f"the file has no size for {names_text(chosen, _MANY)}: chosen here; others with "
            "--dim NAME=VALUE or by --inputs"
        )
    if is_drawn:
        names = names_text([one.text for one in inputs], _MANY)
        notes.append(f"inputs are drawn, seed {SEED}: {names}; give real ones with --inputs")
    return notes
