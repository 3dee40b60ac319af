"""A model from TFLite, with the TFLite interpreter as its framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relax_tapml.arrays import Array
from relax_tapml.errors import UsageError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.frontend import _graph_inputs as graph_inputs
from relax_tapml.frontend._packages import require_packages
from relax_tapml.frontend.model import FrameworkGraph, Meaning, Model, Sample
from relax_tapml.frontend.signature import check_model
from relax_tapml.passes.notes import Note, with_notes
from relax_tapml.printable import message_line

_PACKAGES = ("tflite", "ai_edge_litert")


def from_tflite(
    model: Any,
    *,
    samples: Sequence[Sample | Mapping[str, Any] | Sequence[Any]] | None = None,
    dims: Mapping[str, int | Sequence[int]] | None = None,
    name: str | None = None,
    meaning: Meaning | None = None,
) -> Model:
    """Import a TFLite model with its weights and the outputs of the TFLite interpreter.

    Parameters
    ----------
    model
        A file ``.tflite``, or the bytes of one. Its main subgraph is imported.
    samples
        Real inputs, all of the same shapes: samples, arrays by the names of the inputs, or arrays
        in their order. By default one is drawn: normal floats, any quantised value, and integers
        that are valid as indices.
    dims
        Sizes of dimensions that the file leaves open: ``x.0`` is dimension 0 of input ``x``. Others
        have the sizes of the samples; without samples a first dimension is 1 and each other one 64.
    name
        For people; that of the file by default.
    meaning
        What the last axis of the outputs is.

    Returns
    -------
    Model
        Its module's notes say which sizes and inputs were not given.

    Raises
    ------
    UsageError
        tflite or ai-edge-litert is not installed, there is no such file, samples or sizes do not
        fit the model's inputs, or the interpreter cannot run the first sample.
    StoreError
        The file is no TFLite model, or is damaged.
    LoweringError
        Operators cannot be imported, or TVM converts them to another dtype or shape; all of them
        are listed.
    """
    require_packages("TFLite", _PACKAGES, "tflite")
    from relax_tapml.frontend._tflite.interface import interface_of
    from relax_tapml.frontend._tflite.model_file import open_model

    opened = open_model(model, name)
    interface = interface_of(opened.root)
    given = None
    if samples is not None:
        given = graph_inputs.as_samples_by_name(list(samples), interface.inputs)
    return _imported(opened, interface, given, dims or {}, meaning)


def load_tflite(
    file: Path, *, inputs: Sequence[Path] = (), dims: Mapping[str, Sequence[int]] | None = None
) -> Model:
    """Import a file, with samples from ``.npz`` and ``.safetensors`` files; see ``from_tflite``."""
    require_packages("TFLite", _PACKAGES, "tflite")
    from relax_tapml.frontend._tflite.interface import interface_of
    from relax_tapml.frontend._tflite.model_file import open_model
    from relax_tapml.frontend.inputs import read_arrays

    opened = open_model(file, None)
    interface = interface_of(opened.root)
    samples = tuple(
        Sample(
            name=path.name,
            arrays=graph_inputs.in_order(arrays, interface.inputs, f"inputs {path}"),
        )
        for path, arrays in read_arrays(inputs)
    )
    return _imported(opened, interface, samples if inputs else None, dims or {}, None)


def _imported(
    opened: Any,
    interface: Any,
    given: tuple[Sample, ...] | None,
    dims: Mapping[str, int | Sequence[int]],
    meaning: Meaning | None,
) -> Model:
    from relax_tapml.frontend._tflite.importer import import_graph, known_operators
    from relax_tapml.frontend._tflite.interface import check_sizes, drawn_sample
    from relax_tapml.frontend._tflite.operators import check_operators

    root, inputs = opened.root, interface.inputs
    check_operators(root, *known_operators(), opened.name)
    values = graph_inputs.as_sizes(dims)
    graph_inputs.check_dims(inputs, values)
    if given:
        sizes = graph_inputs.sizes_of_samples(inputs, given, values)
        check_sizes(sizes)
        samples = given
    else:
        sizes = graph_inputs.default_sizes(inputs, values)
        check_sizes(sizes)
        samples = (drawn_sample(root, interface, sizes),)
    imported = import_graph(root, interface, _run(opened, samples[0]), opened.name)
    notes = [*graph_inputs.size_notes(inputs, sizes, not given), *interface.notes]
    model = Model(
        name=opened.name,
        module=with_notes(imported.module, [Note(text) for text in notes]),
        params=imported.params,
        samples=samples,
        reference=_Reference(opened),
        graphs=_Graphs(opened),
        meaning=meaning,
    )
    check_model(model)
    return model


def _run(opened: Any, sample: Sample) -> Any:
    """Run a sample; return the shapes and values of all tensors, which the file need not have."""
    from relax_tapml.frontend._tflite.runtime import run_model

    try:
        return run_model(opened.content, sample.arrays, keep_all=True)
    except Exception as error:
        raise_machine_error(error, f"running {opened.name} in the TFLite interpreter")
        raise UsageError(
            f"the TFLite interpreter cannot run {opened.name} with {sample.name}: "
            f"{message_line(error).rstrip('.')}. Give other inputs, or other sizes with "
            "--dim NAME=VALUE"
        ) from error


class _Reference:
    """Runs the file itself in the TFLite interpreter, with its reference kernels."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def __call__(self, sample: Sample) -> list[Array]:
        from relax_tapml.frontend._tflite.runtime import run_model

        found: list[Array] = run_model(self._opened.content, sample.arrays).outputs
        return found


class _Graphs:
    """Makes the graph of a sample."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def __call__(self, sample: Sample) -> list[FrameworkGraph]:
        from relax_tapml.frontend._tflite.graph import TfliteGraph

        return [TfliteGraph(self._opened.root, _run(self._opened, sample))]
