"""The operators of a TFLite model, each with the Relax that it becomes by itself."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import tvm
import tvm_ffi
from tvm import relax

from relax_tapml._compat import portable_script
from relax_tapml.arrays import Array
from relax_tapml.frontend._filled_script import filled, one_line
from relax_tapml.frontend._tflite.importer import NodeImporter, places_of
from relax_tapml.frontend._tflite.operators import Operator, dtype_of, operators_of
from relax_tapml.frontend._tflite.runtime import Run
from relax_tapml.frontend._tflite.view import SubgraphView
from relax_tapml.frontend.model import NODE, GraphNode, NodeCall
from relax_tapml.passes.submodule import submodule
from relax_tapml.printable import error_line, printable

_TEMPLATE = Path(__file__).with_name("node_script_template.txt")
_SHOWN = 6  # Values of a tensor in a text.


@dataclass(frozen=True, kw_only=True)
class _Part:
    """An output of an operator.

    Parameters
    ----------
    operator, output
        The operator, and which of its outputs.
    function
        The function of the module.
    inputs
        Numbers of the tensors that it takes.
    weights
        Constants that it takes after them.
    """

    operator: Operator
    output: int
    function: str
    inputs: tuple[int, ...]
    weights: tuple[Array, ...]


class TfliteGraph:
    """A ``FrameworkGraph`` of a model that was imported.

    Operators of equal Relax are one function. Constants are arguments of it, except single numbers.

    Parameters
    ----------
    model
        A ``tflite.Model``.
    run
        Of the interpreter, with the values of all tensors.

    Attributes
    ----------
    module, nodes, unjudged
        As in ``FrameworkGraph``.
    """

    def __init__(self, model: Any, run: Run) -> None:
        self._run = run
        self._graph = SubgraphView(model.Subgraphs(0), run.shapes)
        self._operators = operators_of(model, 0)
        self._places = places_of(self._graph, self._operators)
        self._parts: list[_Part] = []
        self._functions: dict[int, list[tuple[str, relax.Function]]] = {}
        self.unjudged: dict[str, str] = {}
        importer = NodeImporter(model, run)
        for operator in self._operators:
            if operator.outputs and not importer.is_known(operator):
                self._import(importer, operator)
        self.module = tvm.IRModule(
            {name: made for alike in self._functions.values() for name, made in alike}
        )
        self.nodes = len({part.operator.at for part in self._parts}) + len(self.unjudged)

    def _import(self, importer: NodeImporter, operator: Operator) -> None:
        for number, at in enumerate(operator.outputs):
            try:
                if at not in self._run.values:
                    raise ValueError("the interpreter keeps no value of it")
                made, inputs, weights = importer.function(operator, self._place(operator), at)
            except Exception as error:  # Of whatever a converter raises.
                self.unjudged[self._name(operator)] = error_line(error)
                continue
            self._parts.append(
                _Part(
                    operator=operator,
                    output=number,
                    function=self._shared(operator, made),
                    inputs=inputs,
                    weights=weights,
                )
            )

    def _shared(self, operator: Operator, made: relax.Function) -> str:
        alike = self._functions.setdefault(int(tvm_ffi.structural_hash(made)), [])
        for name, known in alike:
            if tvm_ffi.structural_equal(known, made):
                return name
        text = self._place(operator).node
        base = "".join(c if c.isascii() and c.isalnum() else "_" for c in text)
        name = f"{NODE}{base}_{sum(map(len, self._functions.values()))}"
        alike.append((name, made.with_attr("global_symbol", name)))
        return name

    def _place(self, operator: Operator) -> Any:
        return self._places[operator.at]

    def _name(self, operator: Operator) -> str:
        name: str = self._graph.Tensors(operator.outputs[0]).Name().decode()
        return name

    def calls(self, *, is_whole: bool = False) -> Iterator[NodeCall]:
        """Yield a call for each tensor that an operator computes."""
        del is_whole  # The interpreter has no wider run.
        for part in self._parts:
            yield self._call(part)

    def _call(self, part: _Part) -> NodeCall:
        operator = part.operator
        place, values = self._place(operator), self._run.values
        inputs = (*(values[at] for at in part.inputs), *part.weights)
        expected = values[operator.outputs[part.output]]
        given = ", ".join(self._value_text(at) if at >= 0 else "none" for at in operator.inputs)
        node = GraphNode(
            name=self._name(operator),
            operator=operator.name,
            module=place.module,
            source=f"{operator.place}, subgraph {operator.subgraph}",
        )
        text = f"{operator.name}({given})"
        return NodeCall(
            node=node,
            # Sites are found by the first output.
            value=place.node if part.output == 0 else "",
            call=text,
            function=part.function,
            inputs=inputs,
            expected=(expected,),
            accurate=_no_wider_run,
            files=lambda allowed, stem: _script(
                node, text, self.module, part.function, inputs, expected, allowed, stem
            ),
        )

    def _value_text(self, at: int) -> str:
        tensor = self._graph.Tensors(at)
        array = self._run.values.get(at)
        name = printable(tensor.Name().decode())
        if array is None:
            return f"{name}: {dtype_of(tensor)}"
        shown = array.reshape(-1)[:_SHOWN].tolist()
        numbers = ", ".join(f"{n:.4g}" if isinstance(n, float) else str(n) for n in shown)
        more = ", ..." if array.size > _SHOWN else ""
        return f"{name}: {array.dtype} {list(array.shape)} = {numbers}{more}"


def _no_wider_run() -> NoReturn:
    raise RuntimeError("the TFLite interpreter has no operators of float64")


def _script(
    node: GraphNode,
    call: str,
    module: tvm.IRModule,
    function: str,
    inputs: tuple[Array, ...],
    expected: Array,
    allowed: float,
    stem: str,
) -> dict[str, bytes]:
    """Return a script and its data: name to content."""
    arrays: dict[str, Any] = {f"x{at}": array for at, array in enumerate(inputs)}
    data = io.BytesIO()
    np.savez(data, expected=expected, **arrays)
    blanks = {
        "NODE": one_line(f"{node.name} ({node.operator})"),
        "SOURCE": one_line(node.source),
        "CALL": one_line(call),
        "DATA": f"{stem}.npz",
        "RELAX": portable_script(submodule(module, [function])).strip(),
        "FUNCTION": function,
        "INPUTS": repr(list(arrays)),
        "ALLOWED": repr(allowed) if math.isfinite(allowed) else "0.0",
    }
    return {f"{stem}.py": filled(_TEMPLATE, blanks), f"{stem}.npz": data.getvalue()}
