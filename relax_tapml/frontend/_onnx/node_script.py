"""A model of one node, and a script that shows it beside the Relax that it became."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tvm

from relax_tapml._compat import portable_script
from relax_tapml.arrays import Array
from relax_tapml.frontend._filled_script import filled, one_line
from relax_tapml.frontend._onnx.evaluate import NodeRun
from relax_tapml.frontend._onnx.runtime import one_node_model
from relax_tapml.frontend.model import GraphNode

_TEMPLATE = Path(__file__).with_name("node_script_template.txt")


def node_script(
    run: NodeRun,
    output: str,
    *,
    opsets: Sequence[onnx.OperatorSetIdProto],
    constants: Mapping[str, Array],
    module: tvm.IRModule,
    function: str,
    arguments: Sequence[str],
    node: GraphNode,
    call: str,
    allowed: float,
    stem: str,
) -> dict[str, bytes]:
    """Return a script, the model of the node, and the data: name to content.

    The script needs onnx, onnxruntime, tvm and numpy only.

    Parameters
    ----------
    run, output
        The node with its values, and the output that is wrong.
    opsets, constants
        Of the model, and the inputs of the node that are constants in it.
    module, function, arguments
        The Relax, the name of its function, and the inputs that it takes.
    node, call
        As in ``NodeCall``.
    allowed
        What a value may be off.
    stem
        Of the names of the files.
    """
    single = one_node_model(run.node, run.inputs, opsets, constants)
    names = [info.name for info in single.graph.input]
    inputs = list(dict.fromkeys([*names, *arguments]))
    data = io.BytesIO()
    arrays: dict[str, Any] = {f"x{at}": run.inputs[name] for at, name in enumerate(inputs)}
    np.savez(data, **arrays)
    blanks = {
        "NODE": one_line(f"{node.name} ({node.operator})"),
        "SOURCE": one_line(node.source),
        "CALL": one_line(call),
        "DATA": f"{stem}.npz",
        "MODEL": f"{stem}.onnx",
        "FEEDS": repr({name: f"x{inputs.index(name)}" for name in names}),
        "OUTPUT": repr([name for name in run.node.output if name].index(output)),
        "RELAX": portable_script(module).strip(),
        "FUNCTION": function,
        "INPUTS": repr([f"x{inputs.index(name)}" for name in arguments]),
        "ALLOWED": repr(allowed) if math.isfinite(allowed) else "0.0",
    }
    return {
        f"{stem}.py": filled(_TEMPLATE, blanks),
        f"{stem}.onnx": single.SerializeToString(),
        f"{stem}.npz": data.getvalue(),
    }
