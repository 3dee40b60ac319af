"""A model from ONNX, with onnxruntime as its framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from relax_tapml.arrays import Array
from relax_tapml.frontend import _graph_inputs as graph_inputs
from relax_tapml.frontend._packages import require_packages
from relax_tapml.frontend.model import FrameworkGraph, Meaning, Model, Sample
from relax_tapml.frontend.signature import check_model
from relax_tapml.passes.notes import Note, with_notes

_PACKAGES = ("onnx", "onnxruntime")


def from_onnx(
    model: Any,
    *,
    samples: Sequence[Sample | Mapping[str, Any] | Sequence[Any]] | None = None,
    dims: Mapping[str, int | Sequence[int]] | None = None,
    name: str | None = None,
    convert_map: Mapping[str, Callable[..., Any]] | None = None,
    meaning: Meaning | None = None,
) -> Model:
    """Import an ONNX model with its weights and the outputs of onnxruntime.

    Parameters
    ----------
    model
        A file ``.onnx``, whose external data lies beside it, or an ``onnx.ModelProto``.
    samples
        Real inputs: samples, arrays by the names of the inputs, or arrays in their order. By
        default they are drawn: normal floats, and integers that are valid as indices.
    dims
        Sizes of dimensions that the file leaves open, by name; ``x.2`` is dimension 2 of input
        ``x`` where it has no name. A dimension with one size is fixed; one with several stays
        symbolic, and drawn samples go through them. Others have the sizes of the samples; without
        samples a first dimension is 1 and each other one 64.
    name
        For people; that of the file or of the graph by default.
    convert_map
        Converters by operator, ``"Slice"`` or ``"com.microsoft::QuickGelu"``, in place of others.
        One gets a ``OnnxCall`` (builder, inputs, attributes) and returns Relax.
    meaning
        What the last axis of the outputs is.

    Returns
    -------
    Model
        Its module's notes say which sizes and inputs were not given.

    Raises
    ------
    UsageError
        onnx or onnxruntime is not installed, there is no such file, or samples or sizes do not fit
        the model's inputs.
    StoreError
        The file is no ONNX model, or its external data is not beside it.
    LoweringError
        Operators cannot be imported; all of them are listed. Or TVM converts a node to another
        dtype or shape than ONNX.
    """
    require_packages("ONNX", _PACKAGES, "onnx")
    from relax_tapml.frontend._onnx import interface
    from relax_tapml.frontend._onnx.model_file import open_model

    opened = open_model(model, name)
    inputs = interface.inputs_of(opened.proto.graph)
    given = None if samples is None else graph_inputs.as_samples_by_name(list(samples), inputs)
    return _imported(opened, inputs, given, dims or {}, convert_map or {}, meaning)


def load_onnx(
    file: Path, *, inputs: Sequence[Path] = (), dims: Mapping[str, Sequence[int]] | None = None
) -> Model:
    """Import a file, with samples from ``.npz`` and ``.safetensors`` files; see ``from_onnx``."""
    require_packages("ONNX", _PACKAGES, "onnx")
    from relax_tapml.frontend._onnx import interface
    from relax_tapml.frontend._onnx.model_file import open_model
    from relax_tapml.frontend.inputs import read_arrays

    opened = open_model(file, None)
    expected = interface.inputs_of(opened.proto.graph)
    samples = tuple(
        Sample(name=path.name, arrays=graph_inputs.in_order(arrays, expected, f"inputs {path}"))
        for path, arrays in read_arrays(inputs)
    )
    return _imported(opened, expected, samples if inputs else None, dims or {}, {}, None)


def _imported(
    opened: Any,
    inputs: Sequence[Any],
    given: tuple[Sample, ...] | None,
    dims: Mapping[str, int | Sequence[int]],
    convert_map: Mapping[str, Callable[..., Any]],
    meaning: Meaning | None,
) -> Model:
    from relax_tapml.frontend._onnx import interface
    from relax_tapml.frontend._onnx.definitions import with_definitions
    from relax_tapml.frontend._onnx.fold import fold
    from relax_tapml.frontend._onnx.importer import check_operators, import_graph, known_operators

    values = graph_inputs.as_sizes(dims)
    graph_inputs.check_dims(inputs, values)
    if given:
        sizes = graph_inputs.sizes_of_samples(inputs, given, values)
        samples = given
    else:
        sizes = graph_inputs.default_sizes(inputs, values)
        samples = interface.drawn_samples(inputs, sizes, opened.proto.graph)
    proto = with_definitions(opened.proto, known_operators() | set(convert_map), opened.name)
    folded = fold(proto, inputs, sizes.fixed, opened.name)
    check_operators(proto, folded, convert_map, opened.name)
    imported = import_graph(folded, inputs, sizes.fixed, convert_map, opened.name)
    notes = [*graph_inputs.size_notes(inputs, sizes, not given), *folded.notes]
    model = Model(
        name=opened.name,
        module=with_notes(imported.module, [Note(text) for text in notes]),
        params=imported.params,
        samples=samples,
        reference=_Reference(opened, inputs),
        accurate=_Accurate(folded, inputs, _Reference(opened, inputs)),
        graphs=_Graphs(opened, proto, inputs, convert_map),
        meaning=meaning,
    )
    check_model(model)
    return model


class _Reference:
    """Runs the file itself in onnxruntime, unoptimised."""

    def __init__(self, opened: Any, inputs: Sequence[Any]) -> None:
        self._opened = opened
        self._names = [one.name for one in inputs]

    def __call__(self, sample: Sample) -> list[Array]:
        from relax_tapml.frontend._onnx.runtime import run_model

        return run_model(self._opened.content, dict(zip(self._names, sample.arrays, strict=True)))


class _Accurate:
    """Runs the folded graph in float64, if it computes what the file does."""

    def __init__(self, folded: Any, inputs: Sequence[Any], reference: _Reference) -> None:
        self._folded = folded
        self._reference = reference
        self._names = [one.name for one in inputs]

    def __call__(self, sample: Sample) -> list[Array]:
        from relax_tapml.frontend._onnx.evaluate import Narrow, differs, run_by_nodes, run_wide

        feeds = dict(zip(self._names, sample.arrays, strict=True))
        run = Narrow(self._folded.model).run
        alike = run_by_nodes(self._folded.model, feeds, run)
        if differs(alike, self._reference(sample)):
            # Else what folding gets wrong would pass as rounding of onnxruntime.
            raise RuntimeError(
                "the folded graph computes something else than the file in onnxruntime, which is "
                "an error of the import"
            )
        found: list[Array] = run_wide(self._folded.model, feeds, self._folded.dtypes)
        return found


class _Graphs:
    """Makes the graph of a sample, all of whose dimensions are numbers."""

    def __init__(
        self,
        opened: Any,
        proto: Any,
        inputs: Sequence[Any],
        convert_map: Mapping[str, Callable[..., Any]],
    ) -> None:
        self._opened = opened
        self._proto = proto
        self._inputs = inputs
        self._convert_map = convert_map

    def __call__(self, sample: Sample) -> list[FrameworkGraph]:
        from relax_tapml.frontend._onnx.fold import fold
        from relax_tapml.frontend._onnx.graph import OnnxGraph

        sizes = graph_inputs.sizes_of_samples(self._inputs, [sample], {})
        folded = fold(self._proto, self._inputs, sizes.fixed, self._opened.name)
        feeds = {one.name: array for one, array in zip(self._inputs, sample.arrays, strict=True)}
        return [OnnxGraph(self._opened.proto, folded, feeds, self._convert_map)]
