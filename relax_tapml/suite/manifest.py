"""What ``manifest.json`` holds: the units of a suite, their cases, tensors and files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from relax_tapml.compare.tolerances.registry import kind_of
from relax_tapml.compare.tolerances.stored import StoredTolerance
from relax_tapml.results.json_codec import Count
from relax_tapml.suite.recipe import Recipe

SCHEMA = 5
READ_SCHEMAS = (3, 4, 5)
"""What this version reads.

In 3 no tensor shares a file, is copied along axes, or has a table; before 5 no unit has kernels
of other targets.
"""

KIND = "relax_tapml.suite"
MANIFEST = "manifest.json"
NEVER_CALLED = "no call of it that returned was recorded"
"""Why a unit has no case, as ``skipped`` begins to say it."""


@dataclass(frozen=True, kw_only=True)
class SuiteAxis:
    """An axis along which a file holds some places, of which all others are copies.

    ``suite.copies`` says of which; ``held`` is how many the file has.
    """

    axis: Count
    held: Count


@dataclass(frozen=True, kw_only=True)
class SuiteTensor:
    """A tensor of the suite.

    Parameters
    ----------
    file
        Relative to the suite, with ``/``. Tensors of equal bytes share one, whatever their shapes
        are. None if the tensor is made by a recipe.
    dtype, shape
        Of the tensor.
    rows, axis
        How many places of an axis, rows of the first, the file holds; the others are filled when it
        is read. None if the file holds all.
    whole
        SHA-256 of the filled tensor's bytes, where the oracles of cases depend on how it is filled;
        None where the other places matter to no case that takes it.
    recipe
        How the tensor is made; None if a file holds it.
    copied
        The axes, ascending, along which most places are copies of those that the file holds.
    table
        How many values the tensor has, if the file holds these and which of them is where; see
        ``compare.tolerances.bound_table``. None if it holds the tensor itself.

    Raises
    ------
    ValueError
        There is neither a file nor a recipe, or both; or it is held in two ways.
    """

    file: str | None
    dtype: str
    shape: tuple[Count, ...]
    rows: Count | None = None
    recipe: Recipe | None = None
    axis: Count = 0
    whole: str | None = None
    copied: tuple[SuiteAxis, ...] = ()
    table: Count | None = None

    def __post_init__(self) -> None:
        if (self.file is None) == (self.recipe is None):
            raise ValueError("a tensor needs a file or a recipe, and not both")
        if self.is_encoded and (self.recipe is not None or self.rows is not None):
            raise ValueError("a tensor is held in two ways")

    @property
    def is_encoded(self) -> bool:
        """Whether its file is one of ``suite._encoded_file``."""
        return bool(self.copied) or self.table is not None


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
    tolerance: StoredTolerance
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

    @property
    def digests(self) -> Iterator[str]:
        """The tensors that it needs; some more than once."""
        yield from (item.tensor for item in self.inputs)
        for output in self.outputs:
            yield output.tensor
            yield from output.tolerance.digests
            if output.unwritten is not None:
                yield output.unwritten


@dataclass(frozen=True, kw_only=True)
class SuiteDim:
    """A symbolic dimension that had one value in all recorded calls of a unit.

    Parameters
    ----------
    name
        For people: the function, the variable, a parameter that has it.
    value
        The one it had.
    probed
        Those that probes of the unit have.
    reason
        Why not more, or no, probes could be made; empty if all that were planned were.
    """

    name: str
    value: int
    probed: tuple[int, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class SuiteKernels:
    """The kernels of a unit that a compiler makes otherwise for a target than for the source.

    Parameters
    ----------
    file
        A module of kernels, which stand for those of the same names in the unit's module; None if
        the target has none.
    reason
        Why it has none, so that the unit cannot be judged there; empty if there is a file.

    Raises
    ------
    ValueError
        There is neither a file nor a reason, or both.
    """

    file: str | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.file is None) == (not self.reason):
            raise ValueError("kernels of a target need a file or a reason, and not both")


@dataclass(frozen=True, kw_only=True)
class SuiteUnit:
    """One unit.

    Parameters
    ----------
    module, test
        The file of its module, and its pytest file.
    cases
        At least one.
    constant_inputs
        Inputs, no weights, that are the same in all cases: ``mask: all 0``.
    inexact
        Which terms of its sums no case tests, and why; empty where it has no sums, or where every
        term is tested.
    dims_seen_once
        The symbolic dimensions that had one value only.
    targets
        Kernels that the unit has on other targets, by the target's whole JSON. Empty for a unit
        that each target makes from the same kernel, which is most units.
    """

    module: str
    test: str
    cases: tuple[SuiteCase, ...]
    constant_inputs: tuple[str, ...] = ()
    inexact: str = ""
    dims_seen_once: tuple[SuiteDim, ...] = ()
    targets: dict[str, SuiteKernels] = field(default_factory=dict)


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
    dropped_cases
        Cases that the suite does not have, ``UNIT/CASE`` to reason: probes that the source itself
        fails or that could not be made, and recorded cases of sites that other cases test. The
        file calls them ``unproven``.
    sha256
        Every other file of the suite: path with ``/``, relative to the suite, to its checksum.
    merged_from
        Of a merged suite: name of each suite it was made from, to its units, as name here to name
        there. Empty otherwise.
    targets
        The targets, as whole JSON, that are known: a unit that lists no kernels for one has the
        source's there.
    """

    source: str
    versions: dict[str, str]
    units: dict[str, SuiteUnit]
    tensors: dict[str, SuiteTensor]
    skipped: dict[str, str]
    skipped_sites: dict[str, str]
    dropped_cases: dict[str, str]
    sha256: dict[str, str]
    merged_from: dict[str, dict[str, str]] = field(default_factory=dict)
    targets: tuple[str, ...] = ()


def writing_all(manifest: Manifest) -> frozenset[str]:
    """Return the units whose outputs the source writes in full in every case."""
    return frozenset(
        name
        for name, unit in manifest.units.items()
        if all(output.unwritten is None for case in unit.cases for output in case.outputs)
    )


def check_tolerances(manifest: Manifest) -> None:
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
                    kind_of(output.tolerance).check_stored(
                        output.tolerance,
                        tensors[output.tensor].shape,
                        inputs=[tensors[item.tensor].shape for item in case.inputs],
                        tensors=[(bound.dtype, bound.shape) for bound in bounds],
                    )
                except ValueError as error:
                    raise ValueError(
                        f"case {case.name}, tolerance of output {number}: {error}"
                    ) from error
