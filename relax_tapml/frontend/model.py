"""A model as every later stage sees it: Relax, parameters by name, and real inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.errors import UsageError

NODE = "node_"
"""The names of a graph's functions begin with it; the name of a node follows."""


class Meaning(StrEnum):
    """What the last axis of a model's outputs is."""

    TOKENS = "tokens"
    """Logits of a language model: the largest is the greedy next token."""

    CLASSES = "classes"
    """Logits of a classifier: the largest is its answer, the five largest its best answers."""

    EMBEDDING = "embedding"
    """A vector, of which only the direction matters."""


class Functions(Protocol):
    """The functions of a module, built and with their weights, by name."""

    def __getitem__(self, name: str) -> Callable[..., list[Any]]:
        """Return a function of arrays, shapes (tuples of int) and objects, without its weights.

        It returns its results as a flat list: arrays, and objects such as a cache, which may be
        passed to other functions.
        """

    def runtime(self, name: str) -> Callable[..., Any]:
        """Return a function of TVM's runtime, ``vm.builtin.kv_state_add_sequence``, for objects.

        It takes objects that these functions have returned, shapes (tuples of int) and numbers, and
        is called where the objects are, which may be on a device.
        """


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One set of real inputs of the entry function.

    Parameters
    ----------
    name
        Where it comes from, for reports: a file name, the start of a text.
    arrays
        One array per input of the entry function, in its order. Low-precision types are
        ``ml_dtypes``.
    """

    name: str
    arrays: tuple[Array, ...]


@dataclass(frozen=True, kw_only=True)
class GraphNode:
    """One node of a framework's graph.

    Parameters
    ----------
    name
        In the graph: ``mul_3``.
    operator
        With its overload: ``aten.mul.Tensor``.
    module
        Path of the module that it is in; empty for the model itself.
    source
        File, line and text of the code that it comes from; empty where that is not known.
    """

    name: str
    operator: str
    module: str = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class NodeCall:
    """One node as the framework computes it, with what the importer made of it.

    Parameters
    ----------
    node
        The node; for an item of several results the node that returns these.
    value
        The name of the node whose value it is: of the item, there.
    call
        The call with names, dtypes, shapes and a few values of its tensors.
    function
        The function of ``FrameworkGraph.module`` that the node became.
    inputs
        Its arguments, as the framework computed them.
    expected
        What the framework's node returns.
    accurate
        The same from a run in a wider dtype, as ``Model.accurate``.
    got
        What the importer has instead of a function: the value of a node that computes a
        dimension.
    files
        Makes a script that needs the framework, TVM and NumPy only, and the data that it reads:
        name to content. Takes what may be off and the stem of the names.
    """

    node: GraphNode
    value: str
    call: str
    function: str = ""
    inputs: tuple[Array, ...] = ()
    expected: tuple[Array, ...]
    accurate: Callable[[], list[Array]] = field(compare=False)
    got: tuple[Array, ...] | None = None
    files: Callable[[float, str], dict[str, bytes]] = field(compare=False)


class FrameworkGraph(Protocol):
    """The graph that a function of a model was imported from, for one call.

    Attributes
    ----------
    module
        A function ``node_NAME`` for each different piece of Relax that a node became, of the values
        that it reads; without symbolic dimensions. And what they call.
    nodes
        How many nodes compute something.
    unjudged
        The nodes among them that cannot be compared, with the reason.
    """

    module: Any
    nodes: int
    unjudged: dict[str, str]

    def calls(self, *, is_whole: bool = False) -> Iterator[NodeCall]:
        """Run the graph in the framework, node by node; values are freed after their last use.

        Parameters
        ----------
        is_whole
            Whether ``accurate`` is of a run of the whole graph in a wider dtype, up to the node,
            and not of the node with the arguments of the framework's own run.
        """


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a frontend returns.

    Parameters
    ----------
    name
        For people: ``all-MiniLM-L6-v2``.
    module
        IRModule with a Relax function ``entry``, whose parameters are its inputs followed by one
        parameter for each item of ``params``. It may be high-level Relax or already lowered.
    params
        Parameter name to array, in the order of ``entry``'s parameters after the inputs. Names
        are those of the Relax parameters.
    samples
        Real inputs, at least one.
    entry
        The function that is called with a sample's arrays; with ``drive``, the one whose operators
        come first in lists.
    reference
        The framework's own outputs for a sample, flattened in order, or None where there is none.
    accurate
        The framework's outputs once more, computed in a wider dtype: floats are float64 or float32
        arrays, wider than those of ``reference``. It may raise where that is not possible. It is
        called only where the source and ``reference`` differ by more than their dtype explains.
    meaning
        What the last axis of the outputs is, so that a run can report whether the model still gives
        the same answers; None for other outputs.
    drive
        Runs a sample with more than one call: it gets the functions and the sample, and returns the
        output arrays. It alone interprets the sample's arrays. Its calls must not depend on
        computed values (as in greedy decoding), because one rounding could then change all later
        calls.
    for_target
        Makes ``module`` once more, for another target: the same Relax functions, with the kernels
        that a compiler makes for that target, such as those of a KV cache. Only needed where
        ``module`` already has such kernels; None where it does not, or where there is no way.
    graphs
        Makes the framework's graphs for a sample, with what the importer made of each node: of
        ``entry``, or with ``drive`` of each function that it calls, in the order of their first
        calls. Called only where source and framework differ. None where there are no such graphs.
    from_texts
        Makes samples of texts, with the model's tokenizer, for ``--text``; None without one.
    """

    name: str
    module: Any
    params: dict[str, Array]
    samples: tuple[Sample, ...]
    entry: str = "main"
    reference: Callable[[Sample], list[Array]] | None = field(default=None, compare=False)
    accurate: Callable[[Sample], list[Array]] | None = field(default=None, compare=False)
    meaning: Meaning | None = None
    drive: Callable[[Functions, Sample], list[Array]] | None = field(default=None, compare=False)
    for_target: Callable[[Any], Any] | None = field(default=None, compare=False)
    graphs: Callable[[Sample], Iterable[FrameworkGraph]] | None = field(default=None, compare=False)
    from_texts: Callable[[Sequence[str]], Sequence[Sample]] | None = field(
        default=None, compare=False
    )

    def __post_init__(self) -> None:
        """Take a meaning by its name, too; ``UsageError`` if there is none of that name."""
        if self.meaning is None:
            return
        try:
            object.__setattr__(self, "meaning", Meaning(self.meaning))
        except ValueError as error:
            raise UsageError(
                f"meaning {self.meaning!r} of {self.name}: expected one of "
                f"{', '.join(repr(str(one)) for one in Meaning)}"
            ) from error

    def run(self, functions: Functions, sample: Sample) -> list[Array]:
        """Run a sample and return its outputs.

        Raises
        ------
        UsageError
            One of them is not an array.
        """
        if self.drive is None:
            outputs = functions[self.entry](*sample.arrays)
        else:
            outputs = list(self.drive(functions, sample))
        for index, output in enumerate(outputs):
            if not isinstance(output, np.ndarray):
                raise UsageError(
                    f"output {index} of {self.name} is a {type(output).__name__}, expected an "
                    "array: an object cannot be compared. Return arrays that depend on it."
                )
        return outputs
