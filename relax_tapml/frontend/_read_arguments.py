"""A node whose converter is watched: arguments that it does not read, it ignores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch._ops import OpOverload
from torch.fx import Node

# They do not change a value. A dtype is compared with PyTorch's record of the node.
_HARMLESS = frozenset(
    {"memory_format", "layout", "device", "pin_memory", "non_blocking", "generator", "dtype"}
)
# They matter to gradients and running statistics, or repeat what the shapes are.
_HARMLESS_IN = {
    "aten::embedding": {"padding_idx", "scale_grad_by_freq", "sparse"},
    "aten::_native_batch_norm_legit_no_training": {"momentum"},
    # Without running statistics those of the batch are taken, as in training.
    "aten::_native_batch_norm_legit": {"training", "momentum"},
    "aten::native_group_norm": {"N", "C", "HxW"},
}


class WatchedNode:
    """A node that notes which of its arguments are read.

    Whatever else a node has is the node's own.

    Parameters
    ----------
    node
        A call of an operator.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.args = _Arguments(node.args)
        self.kwargs = _Keywords(node.kwargs, set())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def normalized_arguments(self, *given: Any, **named: Any) -> Any:
        """Return the node's arguments as PyTorch orders them; reads of them are noted here."""
        found = self._node.normalized_arguments(*given, **named)
        if found is None:
            return None
        args = _Arguments(found.args)
        args.read = self.args.read
        return args, _Keywords(found.kwargs, self.kwargs.read)

    def ignored(self) -> str:
        """Return an argument that was not read although it says something; empty if there is none.

        An argument that has the default of its operator, or is False or None, says nothing. Nor
        does any argument of a node without a value, such as an assertion.
        """
        target: Any = self._node.target
        if not isinstance(target, OpOverload) or self._node.meta.get("val") is None:
            return ""
        harmless = _HARMLESS | _HARMLESS_IN.get(target._schema.name, set())
        schema = target._schema.arguments
        given = {argument.name: at for at, argument in enumerate(schema[: len(self._node.args)])}
        for argument in schema:
            if argument.name in self.kwargs.read or given.get(argument.name) in self.args.read:
                continue
            if argument.name in given:
                value: Any = self._node.args[given[argument.name]]
            else:
                value = self._node.kwargs.get(argument.name)
            is_default = argument.has_default_value() and _is_equal(argument.default_value, value)
            says_nothing = value is None or value is False or is_default
            if argument.name not in harmless and not says_nothing:
                return f"{argument.name}={value}"
        return ""


def _is_equal(default: Any, value: Any) -> bool:
    if isinstance(value, Node):
        return False
    if isinstance(default, list | tuple) and isinstance(value, list | tuple):
        return list(default) == list(value)
    return bool(default == value)


class _Arguments(tuple[Any, ...]):
    """Positional arguments; ``read`` has the places that were read."""

    read: set[int]

    def __new__(cls, values: Any) -> _Arguments:
        made = super().__new__(cls, values)
        made.read = set()
        return made

    def __getitem__(self, place: Any) -> Any:
        places = range(len(self))[place]
        self.read.update([places] if isinstance(places, int) else places)
        return super().__getitem__(place)

    def __iter__(self) -> Iterator[Any]:
        self.read.update(range(len(self)))
        return super().__iter__()

    def evaluated(self, evaluate: Callable[[Any], Any]) -> tuple[Any, ...]:
        """Return other values in place of these, whose reads are noted here."""
        made = _Arguments(evaluate(value) for value in tuple.__iter__(self))
        made.read = self.read
        return made


class _Keywords(dict[str, Any]):
    """Keyword arguments; ``read`` has the names that were read."""

    def __init__(self, values: Any, read: set[str]) -> None:
        super().__init__(values)
        self.read = read

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.read.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)
