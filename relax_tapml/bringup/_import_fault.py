"""Which node of the framework's graph is imported wrongly, where the source differs from it.

Each node is judged by itself: its Relax is built for the source and called with the arguments that
the framework computes for the node, and the result is judged by the rules of the import check, as
if the node were a model. So an error is not carried on to later nodes, and all wrong nodes are
named, and no others. Where every node is right by itself, the fault is in how they work together:
then each value that the source computes in the whole model is compared with the framework's, in
the graph's order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from relax_tapml.arrays import Array, as_float64
from relax_tapml.bringup._import_check import ImportCheck, check_import
from relax_tapml.bringup._source import Source, sample_label
from relax_tapml.bringup.lowered_model import Lowered, lower_model
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.bringup.trusted_source import BuiltSource, Trusted, build_source, trust_source
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import TensorValue
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import MachineError, SourceError, TapmlError
from relax_tapml.files.names import file_stem
from relax_tapml.files.replace import write_file
from relax_tapml.files.scratch import scratch_folder
from relax_tapml.frontend.model import NODE, FrameworkGraph, Functions, Model, NodeCall, Sample
from relax_tapml.passes.submodule import submodule
from relax_tapml.printable import error_line
from relax_tapml.progress import SILENT, Stage
from relax_tapml.results.import_result import (
    FirstDifference,
    ImportFinding,
    WrongNode,
    WrongValue,
)

_BATCH_BYTES = 256 << 20  # Of arguments and results that are held at once.
_MOST_S = 300.0
_NAMED_AT_MOST = 8
_CONFIRMED_AT_MOST = 24
_REASONS_AT_MOST = 20


_Kind = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class _Fault:
    """A node that is wrong by itself."""

    call: NodeCall
    reason: str
    check: ImportCheck | None = None
    got: Array | None = None

    @property
    def kind(self) -> _Kind:
        """Nodes of one kind have the same operator and became the same Relax."""
        return self.call.node.operator, self.call.function or self.call.node.name


@dataclass(kw_only=True)
class _Judged:
    """What has been found about the nodes so far.

    Attributes
    ----------
    nodes
        Those compared.
    faults
        The first wrong node of each kind. It holds its arguments, so the others are names only.
    alike
        The other wrong nodes of each kind.
    confirmations
        How many nodes were judged as models of their own.
    """

    nodes: set[str] = field(default_factory=set)
    faults: dict[_Kind, _Fault] = field(default_factory=dict)
    alike: dict[_Kind, list[str]] = field(default_factory=dict)
    unjudged: dict[str, str] = field(default_factory=dict)
    confirmations: int = 0
    is_cut_short: bool = False

    def add(self, fault: _Fault) -> None:
        """Add a wrong node; of one with several results only the first that is wrong."""
        name = fault.call.node.name
        if any(name in names for names in self.alike.values()):
            return
        if any(name == other.call.node.name for other in self.faults.values()):
            return
        if fault.kind in self.faults:
            self.alike[fault.kind].append(name)
        else:
            self.faults[fault.kind] = fault
            self.alike[fault.kind] = []


def find_import_fault(
    trusted: Trusted, folder: Path, kernels: Path, stage: Stage = SILENT
) -> Trusted:
    """Return the source with what is wrong in its import, where it differs from the framework.

    Parameters
    ----------
    trusted
        Of ``trust_source``. Without a mismatch, or without a framework's graph, it is returned as
        it is.
    folder
        Where scripts that show the wrong nodes are written; made where there is one.
    kernels
        Folder of cached kernels.
    stage
        Shows the progress.

    Raises
    ------
    MachineError
        The machine lacks something.
    """
    check, model = trusted.check, trusted.built.model
    if check is None or check.verdict is not Verdict.MISMATCH:
        return trusted
    if model.graphs is None:
        return trusted
    began = time.monotonic()
    stage.say("looking for the node that is imported wrongly")
    try:
        sample = model.samples[check.sample]
        finding = _searched(trusted, sample, folder, kernels, stage, began + _MOST_S)
    except MachineError:
        raise
    except Exception as error:  # The mismatch stands whatever a graph, or its parts, do.
        finding = ImportFinding(text=f"the search for the node failed: {error_line(error)}")
    finding = replace(finding, seconds=time.monotonic() - began)
    stage.say(f"{trusted.built.side.described} {check.agreement}: {finding.text}")
    return replace(trusted, finding=finding)


def _searched(
    trusted: Trusted, sample: Sample, folder: Path, kernels: Path, stage: Stage, deadline: float
) -> ImportFinding:
    """Search the graphs of a sample, one after the other, up to the first that has a fault."""
    model = trusted.built.model
    assert model.graphs is not None
    found = ImportFinding(text="")
    search = None
    for graph in model.graphs(sample):
        search = _Search(trusted, graph, kernels, stage, deadline)
        own = search.finding(folder)
        found = replace(
            own,
            judged=found.judged + own.judged,
            unjudged=found.unjudged + own.unjudged,
            reasons=dict(list({**found.reasons, **own.reasons}.items())[:_REASONS_AT_MOST]),
        )
        if own.text:
            return found
    text = f"each of {found.judged} nodes is right by itself"
    if found.unjudged:
        text += f", {found.unjudged} could not be judged"
    # With a drive no call of a function is the model's own, with which sites could be compared.
    first = search.first_difference(sample) if search and model.drive is None else None
    text += f"; {_together_text(first, model.drive, trusted.built.side.pipeline)}"
    return replace(found, text=text, first=first)


class _Search:
    """The search in one graph."""

    def __init__(
        self,
        trusted: Trusted,
        graph: FrameworkGraph,
        kernels: Path,
        stage: Stage,
        deadline: float,
    ) -> None:
        self._trusted = trusted
        self._kernels = kernels
        self._stage = stage
        self._deadline = deadline
        self._graph = graph
        # A pipeline of the source knows the units of the model, not those of single nodes.
        self._side = SideSpec(target=trusted.built.side.target)

    def finding(self, folder: Path) -> ImportFinding:
        """Return the nodes that are wrong by themselves; without text if there are none."""
        judged = self._alone()
        unjudged = {**self._graph.unjudged, **judged.unjudged}
        finding = ImportFinding(
            text="",
            judged=len(judged.nodes),
            unjudged=len(unjudged),
            reasons=dict(list(unjudged.items())[:_REASONS_AT_MOST]),
        )
        end = ""
        if judged.is_cut_short:
            end = f"; the search ended after {_MOST_S:.0f} s, before the last node"
        if judged.faults:
            kinds = list(judged.faults)[:_NAMED_AT_MOST]
            nodes = tuple(
                self._wrong_node(judged.faults[kind], judged.alike[kind], folder) for kind in kinds
            )
            text = _nodes_text(nodes) + end
            if nodes[0].script:
                text += f". {folder.parent / nodes[0].script} shows it"
            return replace(finding, nodes=nodes, text=text)
        if judged.is_cut_short:
            text = f"each of {len(judged.nodes)} nodes is right by itself"
            if unjudged:
                text += f", {len(unjudged)} could not be judged"
            return replace(finding, text=text + end)
        return finding

    # Each node by itself.

    def _alone(self) -> _Judged:
        judged = _Judged()
        names = sorted(gvar.name_hint for gvar in self._graph.module.functions)
        built = self._built([name for name in names if name.startswith(NODE)], judged)
        for batch in _batches(self._graph.calls()):
            if time.monotonic() > self._deadline:
                judged.is_cut_short = True
                break
            for call, got in self._results(batch, built, judged):
                judged.nodes.add(call.node.name)
                fault = self._judge(call, got)
                if fault is not None and self._is_confirmed(fault, judged):
                    judged.add(fault)
            self._stage.update(len(judged.nodes), self._graph.nodes)
            self._stage.say(f"{len(judged.nodes)} of {self._graph.nodes} nodes compared")
        return judged

    def _built(self, names: Sequence[str], judged: _Judged) -> dict[str, BuiltSource]:
        """Build the nodes' functions together; those that cannot be built are left out."""
        if not names:
            return {}
        model = _nodes_model(self._trusted.built.model.name, self._graph, names, ())
        try:
            lowered = lower_model(model)
            built = build_source(model, lowered, self._side, self._kernels)
        except MachineError:
            raise
        except Exception as error:
            if len(names) == 1:
                judged.unjudged[names[0].removeprefix(NODE)] = error_line(error)
                return {}
            half = len(names) // 2
            return {**self._built(names[:half], judged), **self._built(names[half:], judged)}
        return dict.fromkeys(names, built)

    def _results(
        self, batch: Sequence[NodeCall], built: dict[str, BuiltSource], judged: _Judged
    ) -> Iterator[tuple[NodeCall, Array]]:
        """Yield calls with their results, in order; crashes and failures become faults."""
        groups: list[list[NodeCall]] = []
        for call in batch:
            if call.got is not None or call.function in built:
                source = None if call.got is not None else built[call.function]
                last = groups[-1][-1] if groups else None
                before = None if last is None or last.got is not None else built[last.function]
                if groups and source is before:
                    groups[-1].append(call)
                else:
                    groups.append([call])
        for group in groups:
            if group[0].got is not None:
                yield from ((call, call.got[0]) for call in group if call.got is not None)
            else:
                yield from self._run(group, built[group[0].function], judged)

    def _run(
        self, calls: Sequence[NodeCall], built: BuiltSource, judged: _Judged
    ) -> Iterator[tuple[NodeCall, Array]]:
        samples = tuple(
            Sample(name=f"{call.node.name} ({call.function})", arrays=call.inputs) for call in calls
        )
        functions = {
            sample.name: call.function for sample, call in zip(samples, calls, strict=True)
        }
        model = replace(
            built.model,
            samples=samples,
            drive=lambda found, sample: found[functions[sample.name]](*sample.arrays),
        )
        built.source.take_model(model, {}, built.lowered.module)
        try:
            outputs = built.source.run(SILENT)
        except SourceError as error:
            if len(calls) > 1:
                for call in calls:
                    yield from self._run([call], built, judged)
                return
            judged.nodes.add(calls[0].node.name)
            judged.add(_Fault(call=calls[0], reason=str(error)))
            return
        for call, found in zip(calls, outputs, strict=True):
            yield call, found[0]

    def _judge(self, call: NodeCall, got: Array) -> _Fault | None:
        check = check_import(_node_model(call, self._graph), [[got]])
        if check is None or check.verdict is not Verdict.MISMATCH:
            return None
        return _Fault(call=call, reason=check.decisive.reason, check=check, got=got)

    def _is_confirmed(self, fault: _Fault, judged: _Judged) -> bool:
        """Return whether a node is wrong as a model of its own, too.

        There, other choices among equal scores are right.
        """
        if fault.kind in judged.faults or not fault.call.function:
            return True
        if judged.confirmations == _CONFIRMED_AT_MOST:
            why = f"it differs; only {_CONFIRMED_AT_MOST} nodes are confirmed"
            judged.unjudged.setdefault(fault.call.node.name, why)
            return False
        judged.confirmations += 1
        model = _node_model(fault.call, self._graph)
        try:
            built = build_source(model, lower_model(model), self._side, self._kernels)
            check = trust_source(built).check
        except MachineError:
            raise
        except TapmlError:  # It has no operator: nothing is chosen.
            return True
        return check is not None and check.verdict is Verdict.MISMATCH

    def _wrong_node(self, fault: _Fault, alike: Sequence[str], folder: Path) -> WrongNode:
        call, check = fault.call, fault.check
        allowed = None if check is None else check.decisive.allowed
        files = call.files(0.0 if allowed is None else allowed, file_stem(call.node.name))
        if files:
            folder.mkdir(exist_ok=True)
        for name, content in files.items():
            write_file(folder / name, content)
        relax = ""
        if call.function:
            relax = str(self._graph.module[call.function].script())
        return WrongNode(
            node=call.node.name,
            operator=call.node.operator,
            module=call.node.module,
            source=call.node.source,
            call=call.call,
            relax=relax,
            reason=fault.reason,
            worst=None if fault.got is None else _worst(call.expected[0], fault.got),
            tolerance=allowed,
            tolerance_origin=None if check is None else check.decisive.tolerance.origin,
            alike=tuple(alike),
            script=f"{folder.name}/{next(iter(files))}" if files else "",
        )

    # All nodes together.

    def first_difference(self, sample: Sample) -> FirstDifference | None:
        """Return the first value of the source that differs from the framework's."""
        built = self._trusted.built
        sites = _sites_of_nodes(built.lowered)
        model = replace(built.model, samples=(sample,))
        with scratch_folder() as scratch:
            source = Source(
                model, built.source.units, built.side.trusted().target,
                built.source.kernels, built.source.library,
            )  # fmt: skip
            # Also tells it how large the calls are.
            (again,) = source.run(SILENT)
            with source.capture(scratch / "captures", [again]) as store:
                for call in self._graph.calls(is_whole=True):
                    site = sites.get(call.value)
                    got = None if site is None else _captured(store, site, sample)
                    if got is None or site is None or not _is_alike(got, call.expected[0]):
                        continue
                    check = check_import(_node_model(call, self._graph), [[got]])
                    if check is not None and check.verdict is Verdict.MISMATCH:
                        return FirstDifference(
                            site=site,
                            node=call.node.name,
                            operator=call.node.operator,
                            module=call.node.module,
                            reason=check.decisive.reason,
                        )
        return None


def _batches(calls: Iterator[NodeCall]) -> Iterator[list[NodeCall]]:
    batch: list[NodeCall] = []
    size = 0
    for call in calls:
        own = sum(array.nbytes for array in (*call.inputs, *call.expected))
        if batch and size + own > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(call)
        size += own
    if batch:
        yield batch


def _nodes_model(
    name: str, graph: FrameworkGraph, names: Sequence[str], samples: tuple[Sample, ...]
) -> Model:
    def drive(functions: Functions, sample: Sample) -> list[Array]:
        return functions[sample.name](*sample.arrays)

    return Model(
        name=f"nodes of {name}",
        module=submodule(graph.module, names),
        params={},
        samples=samples or (Sample(name=names[0], arrays=()),),
        entry=names[0],
        drive=drive,
    )


def _node_model(call: NodeCall, graph: FrameworkGraph) -> Model:
    """Return a node as a model of its own."""
    return Model(
        name=f"node {call.node.name}",
        module=submodule(graph.module, [call.function] if call.function else []),
        params={},
        samples=(Sample(name=call.node.name, arrays=call.inputs),),
        entry=call.function,
        reference=lambda _sample: list(call.expected),
        accurate=lambda _sample: call.accurate(),
        drive=None if call.function else lambda _functions, _sample: list(call.got or ()),
    )


def _worst(expected: Array, got: Array) -> WrongValue | None:
    """Return the value that is farthest off; the first that is not finite on one side only."""
    if expected.shape != got.shape or not expected.size:
        return None
    mine, theirs = as_float64(got).reshape(-1), as_float64(expected).reshape(-1)
    with np.errstate(invalid="ignore"):
        error = np.abs(mine - theirs)
    is_same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
    error = np.where(is_same, 0.0, np.where(np.isnan(error), np.inf, error))
    at = int(np.argmax(error))
    return WrongValue(
        index=tuple(int(i) for i in np.unravel_index(at, expected.shape)),
        expected=float(theirs[at]),
        got=float(mine[at]),
    )


def _sites_of_nodes(lowered: Lowered) -> dict[str, str]:
    """Return the site whose result is the value of a node: the last that has it as last origin."""
    return {
        entry.origins[-1].node: entry.site.id
        for entry in lowered.table
        if entry.site.function == lowered.entry and entry.origins
    }


def _captured(store: CaptureStore, site: str, sample: Sample) -> Array | None:
    for call in store.calls(site, sample_label(0, sample.name)):
        if call.outputs and isinstance(call.outputs[0], TensorValue):
            return store.tensor(call.outputs[0].digest)
    return None


def _is_alike(got: Array, expected: Array) -> bool:
    return got.shape == expected.shape and got.dtype == expected.dtype


def _nodes_text(nodes: Sequence[WrongNode]) -> str:
    first, *others = nodes
    where = f" in {first.module}" if first.module else ""
    line = f" ({first.source})" if first.source else ""
    text = f"{first.operator} is imported wrongly: node {first.node}{where}{line} {first.reason}"
    if first.alike:
        count = len(first.alike)
        text += f"; {count} more {'nodes' if count > 1 else 'node'} became the same Relax"
    if others:
        text += "; also " + ", ".join(f"{n.operator} (node {n.node})" for n in others)
    return text


def _together_text(first: FirstDifference | None, drive: object, pipeline: object) -> str:
    what = "lowering" if pipeline is None else "lowering, or the host pipeline"
    if drive is not None:
        return (
            f"the fault is in how they work together, after the import ({what}), or in the drive; "
            "of a model with a drive the values on the way are not compared"
        )
    if first is None:
        return (
            f"the fault is in how they work together, after the import ({what}, the order of the "
            "outputs); no value that the source computes on its way differs"
        )
    where = f" in {first.module}" if first.module else ""
    return (
        f"the fault is in how they work together, after the import ({what}): the first value of "
        f"the source that differs is {first.site}, node {first.node}, {first.operator}{where}: "
        f"{first.reason}"
    )
