"""How the source compares with the framework that the model comes from."""

from __future__ import annotations

from dataclasses import dataclass, field

from relax_tapml.compare.verdict import Verdict
from relax_tapml.results.error_map_result import ErrorMapResult
from relax_tapml.results.json_codec import Count, Number, Seconds


@dataclass(frozen=True, kw_only=True)
class ImportDistance:
    """``import_check`` of ``result.json``: how far the source is from the framework's own output.

    Parameters
    ----------
    max_abs
        The error of the output that decided.
    tolerance, tolerance_origin
        How far that may be, and where the number comes from.
    verdict
        Of the check.
    ties, unjudged
        Values of that output that are another choice among equal ones, or not judged.
    """

    max_abs: Number | None
    tolerance: Number | None
    tolerance_origin: str | None = None
    verdict: Verdict
    ties: Count = 0
    unjudged: Count = 0


@dataclass(frozen=True, kw_only=True)
class ImportPower:
    """What the import check could see.

    Parameters
    ----------
    tolerance_of_rms
        What was allowed, of the output that decided: one root mean square over the other.
    blunt
        ``sample 'NAME', output N`` of the outputs whose tolerance could not see 1.1 times them.
    """

    tolerance_of_rms: Number | None
    blunt: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class WrongValue:
    """The value of a node that is farthest from the framework's."""

    index: tuple[Count, ...]
    expected: Number
    got: Number


@dataclass(frozen=True, kw_only=True)
class WrongNode:
    """A node of the framework's graph that is imported wrongly, and the others of its kind.

    Parameters
    ----------
    node, operator, module, source
        Its name, its operator with the overload, the path of the module that it is in, and the line
        of code that it comes from; empty where that is not known.
    call
        The call, with dtypes, shapes and a few values of its arguments.
    relax
        What the importer made of it, as a function of these arguments.
    reason
        How its value differs from the framework's, on the framework's arguments.
    worst
        The value that is farthest off; None where shape or dtype differ, or there is no value.
    tolerance, tolerance_origin
        What was allowed, and where the number comes from; None where there is no value.
    alike
        Other nodes that are wrong, of the same operator and with the same Relax.
    script
        A script in the output folder that shows the wrong value; empty without one.
    """

    node: str
    operator: str
    module: str = ""
    source: str = ""
    call: str = ""
    relax: str = ""
    reason: str
    worst: WrongValue | None = None
    tolerance: Number | None = None
    tolerance_origin: str | None = None
    alike: tuple[str, ...] = ()
    script: str = ""


@dataclass(frozen=True, kw_only=True)
class FirstDifference:
    """The first value of the source, in the graph's order, that differs from the framework's.

    Parameters
    ----------
    site
        That computes it.
    node, operator, module
        Of the framework's graph.
    reason
        How it differs.
    """

    site: str
    node: str
    operator: str
    module: str = ""
    reason: str


@dataclass(frozen=True, kw_only=True)
class ImportFinding:
    """What makes the source differ from the framework.

    Parameters
    ----------
    text
        In a sentence.
    nodes
        The kinds of nodes that are imported wrongly, in the graph's order.
    first
        Where each node is right by itself: the first value of the whole that differs.
    judged, unjudged
        How many nodes were compared, and how many could not be.
    reasons
        Why not, for some of these by name.
    seconds
        What the search took.
    """

    text: str
    nodes: tuple[WrongNode, ...] = ()
    first: FirstDifference | None = None
    judged: Count = 0
    unjudged: Count = 0
    reasons: dict[str, str] = field(default_factory=dict)
    seconds: Seconds = 0.0


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """``import`` of ``result.json``: how the import was judged.

    Parameters
    ----------
    verdict
        Of the check; ``skipped`` without one.
    warning
        Why the run went on although the import is not known to be right; empty if it is.
    judged_by
        ``the framework's output`` or ``float64 run``; None without a check.
    error, tolerance, tolerance_origin
        Of the value that decided.
    power
        What the check could see.
    note
        Why there is no more accurate run of the framework although it was needed.
    finding
        What makes the source differ; None where it does not, or there is no framework's graph.
    error_map
        Where the output that decided is wrong; None if it is right.
    """

    verdict: Verdict = Verdict.SKIPPED
    warning: str = ""
    judged_by: str | None = None
    error: Number | None = None
    tolerance: Number | None = None
    tolerance_origin: str | None = None
    power: ImportPower | None = None
    note: str = ""
    finding: ImportFinding | None = None
    error_map: ErrorMapResult | None = None
