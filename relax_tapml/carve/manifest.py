"""What a suite says about itself in ``manifest.json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from relax_tapml.carve.suite_tolerance import SuiteTolerance as SuiteTolerance
from relax_tapml.carve.suite_tolerance import tolerance_from

SCHEMA = 2
KIND = "relax_tapml.suite"
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class SuiteTensor:
    """A tensor of the suite.

    Parameters
    ----------
    file
        Relative to the suite, with ``/``.
    dtype, shape
        Of the tensor.
    rows
        How many of its rows the file holds; the others matter to no case that takes it. None if
        the file holds all.
    """

    file: str
    dtype: str
    shape: tuple[int, ...]
    rows: int | None = None


@dataclass(frozen=True, kw_only=True)
class SuiteInput:
    """A tensor argument: which tensor, and the name of the weight it is, or None."""

    tensor: str
    weight: str | None


@dataclass(frozen=True, kw_only=True)
class SuiteOutput:
    """A recorded output, the oracle, and how far from it a device may be.

    Parameters
    ----------
    tensor
        Digest of the oracle.
    tolerance
        How far from it a value may be.
    unwritten
        Digest of a bool tensor of its shape: the values that the source never writes. No device
        is judged there. None if it writes all.
    """

    tensor: str
    tolerance: SuiteTolerance
    unwritten: str | None = None


@dataclass(frozen=True, kw_only=True)
class SuiteCase:
    """One recorded call.

    Parameters
    ----------
    name
        Unique in its unit: ``main-012-case0``.
    site, sample, frame, call
        Which call it was.
    function
        The function of the unit's module that does the call.
    may_write
        Whether the call may change its arguments in place.
    reason
        Why it was chosen.
    origins
        Where in the model the call comes from, ``encoder.layer.3.output.dense:addmm_5``; empty
        where it is not known.
    is_probe
        Whether it was not recorded: its inputs were made from those of another case, and its
        outputs are a float64 evaluation of the unit. It keeps the site of that case.
    """

    name: str
    site: str
    sample: str
    frame: int
    call: int
    function: str
    may_write: bool
    inputs: tuple[SuiteInput, ...]
    outputs: tuple[SuiteOutput, ...]
    reason: str
    origins: tuple[str, ...] = ()
    is_probe: bool = False


@dataclass(frozen=True, kw_only=True)
class SuiteUnit:
    """One unit: the file of its module, its pytest file, and its cases."""

    module: str
    test: str
    cases: tuple[SuiteCase, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole document.

    Parameters
    ----------
    source
        The source target, as JSON.
    versions
        Distribution name to version, of what wrote the suite.
    units
        By name, in the order in which the units first ran.
    tensors
        By digest.
    skipped
        Units without a case: name to reason.
    skipped_sites
        Sites of other units that could not be carved although chosen: id to reason.
    unproven
        Probes that were left out because the source itself fails them: ``UNIT/CASE`` to reason.
    sha256
        Every other file of the suite: path with ``/``, relative to the suite, to its checksum.
    merged_from
        Of a merged suite: name of each suite it was made from, to its units, as name here to name
        there. Empty otherwise.
    """

    source: str
    versions: dict[str, str]
    units: dict[str, SuiteUnit]
    tensors: dict[str, SuiteTensor]
    skipped: dict[str, str]
    skipped_sites: dict[str, str]
    unproven: dict[str, str]
    sha256: dict[str, str]
    merged_from: dict[str, dict[str, str]] = field(default_factory=dict)


def writing_all(manifest: Manifest) -> frozenset[str]:
    """Return the units that the source was seen to write all of their outputs with."""
    return frozenset(
        name
        for name, unit in manifest.units.items()
        if all(output.unwritten is None for case in unit.cases for output in case.outputs)
    )


def from_document(document: dict[str, Any]) -> Manifest:
    """Read the JSON document of a manifest.

    Raises
    ------
    KeyError, TypeError, ValueError, AttributeError
        It does not have the shape of one.
    """
    manifest = Manifest(
        source=_text(document["source"]),
        versions=_texts(document["versions"]),
        units={name: _unit(unit) for name, unit in document["units"].items()},
        tensors={
            digest: SuiteTensor(
                file=_text(tensor["file"]),
                dtype=_text(tensor["dtype"]),
                shape=tuple(int(extent) for extent in tensor["shape"]),
                rows=None if tensor["rows"] is None else int(tensor["rows"]),
            )
            for digest, tensor in document["tensors"].items()
        },
        skipped=_texts(document["skipped"]),
        skipped_sites=_texts(document["skipped_sites"]),
        unproven=_texts(document["unproven"]),
        sha256=_texts(document["sha256"]),
        merged_from={
            name: _texts(units) for name, units in document.get("merged_from", {}).items()
        },
    )
    _check_tolerances(manifest)
    return manifest


def _unit(unit: dict[str, Any]) -> SuiteUnit:
    return SuiteUnit(
        module=_text(unit["module"]),
        test=_text(unit["test"]),
        cases=tuple(_case(case) for case in unit["cases"]),
    )


def _case(case: dict[str, Any]) -> SuiteCase:
    return SuiteCase(
        name=_text(case["name"]),
        site=_text(case["site"]),
        sample=_text(case["sample"]),
        frame=int(case["frame"]),
        call=int(case["call"]),
        function=_text(case["function"]),
        may_write=bool(case["may_write"]),
        inputs=tuple(
            SuiteInput(
                tensor=_text(item["tensor"]),
                weight=None if item["weight"] is None else _text(item["weight"]),
            )
            for item in case["inputs"]
        ),
        outputs=tuple(
            SuiteOutput(
                tensor=_text(item["tensor"]),
                tolerance=tolerance_from(item["tolerance"]),
                unwritten=None if item.get("unwritten") is None else _text(item["unwritten"]),
            )
            for item in case["outputs"]
        ),
        reason=_text(case["reason"]),
        origins=tuple(_text(origin) for origin in case.get("origins", ())),
        is_probe=bool(case["is_probe"]),
    )


def _check_tolerances(manifest: Manifest) -> None:
    """Raise ``KeyError`` or ``ValueError`` if a tolerance does not fit the output it is for."""
    tensors = manifest.tensors
    for unit in manifest.units.values():
        for case in unit.cases:
            for number, output in enumerate(case.outputs):
                bounds = [tensors[digest] for digest in output.tolerance.digests]
                mask = None if output.unwritten is None else tensors[output.unwritten]
                expected = ("bool", tensors[output.tensor].shape)
                if mask is not None and (mask.dtype, mask.shape) != expected:
                    raise ValueError(
                        f"case {case.name}, unwritten values of output {number}: expected "
                        f"{expected[0]}{list(expected[1])}, got {mask.dtype}{list(mask.shape)}"
                    )
                try:
                    output.tolerance.check(
                        tensors[output.tensor].shape,
                        inputs=[tensors[item.tensor].shape for item in case.inputs],
                        bounds=[(bound.dtype, bound.shape) for bound in bounds],
                    )
                except ValueError as error:
                    raise ValueError(
                        f"case {case.name}, tolerance of output {number}: {error}"
                    ) from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {name: _text(value) for name, value in values.items()}
