"""One boundary, tried: run the model with it, and compare with the source's outputs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from relax_tapml.arrays import Array, are_same_arrays
from relax_tapml.compare.agreement import Agreement, agreement, joined
from relax_tapml.compare.comparison import Comparison, compare_all, worst
from relax_tapml.compare.repeat import repeated
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.compare.verdict import FAULTS, Verdict, verdict_of
from relax_tapml.crossings import bytes_of
from relax_tapml.errors import DeviceFault, DeviceUnavailable
from relax_tapml.frontend.model import Model
from relax_tapml.migrate._session_calls import SessionCalls
from relax_tapml.migrate.built_sides import BuiltSides, units_of
from relax_tapml.migrate.choices import SourceChoices
from relax_tapml.migrate.move_groups import MoveGroup
from relax_tapml.migrate.strategies.strategy import Proposal
from relax_tapml.partition.hybrid import HybridModule
from relax_tapml.partition.program import PartitionedProgram
from relax_tapml.passes.site import Site
from relax_tapml.replays.replay import ReplayReport
from relax_tapml.results.step_result import (
    AgreementResult,
    Exhaustion,
    StepResult,
    StepSeconds,
)
from relax_tapml.targets.session.attempts import retry_if_killed, was_killed
from relax_tapml.targets.session.device import Device
from relax_tapml.targets.session.traffic import Traffic

_RIGHT = (Verdict.PASS, Verdict.INCONCLUSIVE)
_BLUNT = "its outputs agree, but their tolerances are blunt: a grossly wrong result would pass too"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Everything that boundaries are tried with.

    Parameters
    ----------
    sides
        The module and its kernels.
    groups
        What may move, by name.
    device
        Where device kernels run.
    model
        Whose samples are run.
    oracles, tolerances
        For each sample, the source's outputs and how far from them a right target may be.
    repeat
        How often each boundary is run.
    rerun_units
        Replays some units alone on ``device``, many times, so that a flaky one is named. None if
        there is no suite to replay.
    exhaust
        Calls some units alone, twice as often as given, and returns the first that fails so; None
        if there is no suite.
    choices
        What the source chooses; None if it was not recorded.
    """

    sides: BuiltSides
    groups: Mapping[str, MoveGroup]
    device: Device
    model: Model
    oracles: Sequence[Sequence[Array]]
    tolerances: Sequence[Sequence[Tolerance]]
    repeat: int = 1
    rerun_units: Callable[[Sequence[str]], ReplayReport] | None = None
    exhaust: Callable[[Mapping[str, int]], tuple[str, Exhaustion] | None] | None = None
    choices: SourceChoices | None = None
    _calls: SessionCalls = field(init=False)
    # The session that the device had before, in which others have run; 0 if it had none.
    _earlier_session: int = field(init=False)
    # By sample, the outputs that were compared last.
    _compared: dict[int, _Compared] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_calls", SessionCalls(self.device))
        earlier = self.device.opened if self.device.is_open else 0
        object.__setattr__(self, "_earlier_session", earlier)

    def step(self, proposal: Proposal) -> StepResult:
        """Run the model with a boundary and compare with the source's outputs.

        What fails is run again: a device whose results differ from run to run is flaky, and then
        the last move is not known to be wrong.

        Raises
        ------
        LoweringError
            The partition itself failed.
        DeviceUnavailable
            No session could be opened.
        """
        sites = frozenset[str]().union(*(self.groups[name].sites for name in proposal.boundary))
        if sites:
            _ = self.device.session  # Opening it is no part of the step.
        built_before = self.sides.library.built_count
        began = time.perf_counter()
        program = self.sides.partition(sites, is_poisoned=True)
        partition_s = time.perf_counter() - began
        attempts = repeated(
            lambda: self._settled(self._attempt(program, sites), sites), self.repeat
        )
        failed = [item for item in attempts if item.verdict not in _RIGHT]
        first = failed[0] if failed else attempts[0]
        verdict, reason, flaky = first.verdict, first.reason, {}
        exhausting: dict[str, Exhaustion] = {}
        session = ""
        if failed:
            self._calls.failed = failed[-1].calls
        if 0 < len(failed) < len(attempts):
            verdict = Verdict.FLAKY
            reason = f"in {len(failed)} of {len(attempts)} runs {reason}"
            flaky = self._flaky_groups(proposal.boundary)
            if not flaky:
                exhausting, session = self._about_session(proposal, failed)
        elif verdict in FAULTS:
            reason = f"{reason}{self._where(sites, first.sample)}"
        elif proposal.is_alone and verdict is Verdict.PASS:
            # It is about to be blamed in context, where only the session may be worn out.
            exhausting = self._exhausting(self._calls.failed)
        return StepResult(
            boundary=tuple(sorted(proposal.boundary)),
            moved=proposal.moved,
            unit=proposal.moved[0] if len(proposal.moved) == 1 else None,
            purpose=proposal.purpose,
            verdict=verdict,
            reason=reason,
            error=first.error,
            runs=len(attempts),
            failures=len(failed),
            flaky=flaky,
            seconds=StepSeconds(
                shift=partition_s + attempts[0].link_s,
                run=sum(item.run_s for item in attempts),
            ),
            kernels_built=self.sides.library.built_count - built_before,
            regions=len(program.calls),
            crossings=sum(call.crossings for call in program.calls),
            crossing_bytes=bytes_of(program.calls),
            calls=program.calls,
            bytes_moved=attempts[0].traffic.total,
            bytes_to_device=attempts[0].traffic.to_device,
            agreement=None if first.agreement is None else AgreementResult.of(first.agreement),
            exhausting=exhausting,
            session=session,
            ties=tuple(dict.fromkeys(tie for item in attempts for tie in item.ties)),
        )

    def _about_session(
        self, proposal: Proposal, failed: Sequence[_Attempt]
    ) -> tuple[dict[str, Exhaustion], str]:
        """Look for the cause of a failure in what its session had done before.

        Returns the groups that wear it out, and a description of the session if it fails whatever
        moves although no group does so alone. Both are empty if the session is not the cause.
        """
        used = [item for item in failed if item.is_used]
        if not used:
            return {}, ""
        found = self._exhausting(used[0].calls)
        kept = proposal.boundary.difference(proposal.moved)
        if found or not kept:
            return found, ""
        again = self._worn_out(kept, used[0].calls)
        if again is None:
            return {}, ""
        self._calls.is_renewing = True
        return {}, (
            f"a session fails after {again.calls.total()} calls whatever moved: {again.reason}. No "
            "unit does so alone; each run now has a session of its own"
        )

    def _exhausting(self, calls: Mapping[str, int]) -> dict[str, Exhaustion]:
        """Return the groups whose unit fails alone when it is called as often and more."""
        if self.exhaust is None or not calls:
            return {}
        found = self.exhaust(calls)
        # Use a fresh session: earlier calls may have corrupted device memory.
        self.device.close()
        if found is None:
            return {}
        unit, how = found
        return {group.name: how for group in self.groups.values() if group.unit == unit}

    def _worn_out(self, names: Iterable[str], calls: Counter[str]) -> _Attempt | None:
        """Run a good boundary in one session for as many calls; return how it fails, if it does."""
        sites = frozenset[str]().union(*(self.groups[name].sites for name in names))
        program = self.sides.partition(sites, is_poisoned=True)
        self.device.close()
        done = Counter[str]()
        while done.total() < calls.total():
            attempt = self._attempt(program, sites)
            if attempt.verdict is not Verdict.PASS:
                return attempt
            if attempt.calls == done:  # Nothing is called, so that no run adds to it.
                break
            done = attempt.calls
        self.device.close()
        return None

    def _flaky_groups(self, names: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Return failures and runs of the groups whose units are flaky alone."""
        if self.rerun_units is None:
            return {}
        groups = [self.groups[name] for name in sorted(names)]
        report = self.rerun_units(list(dict.fromkeys(group.unit for group in groups)))
        if report.unavailable:  # Which unit is flaky is not known, and must not be guessed.
            raise DeviceUnavailable(report.unavailable)
        # Use a fresh session: earlier calls may have corrupted device memory.
        self.device.close()
        return {
            group.name: (detail.failures, detail.runs)
            for group in groups
            if (detail := report.details[group.unit]).verdict is Verdict.FLAKY
        }

    def _settled(self, attempt: _Attempt, sites: frozenset[str]) -> _Attempt:
        """Run what differs once more, with the source's choices where others are as good.

        If nothing was chosen otherwise, or the outputs differ all the same, the first run stands.
        """
        if attempt.verdict is not Verdict.MISMATCH or not self.choices or not self.choices.units:
            return attempt
        program = self.sides.partition(sites, is_poisoned=True, replaced=self.choices.units)
        again = self._attempt(program, sites, self.choices)
        if again.verdict not in _RIGHT or not again.ties:
            return attempt
        return replace(
            attempt,
            verdict=again.verdict,
            reason=again.reason,
            error=again.error,
            agreement=again.agreement,
            ties=again.ties,
        )

    def _attempt(
        self,
        program: PartitionedProgram,
        sites: frozenset[str],
        choices: SourceChoices | None = None,
    ) -> _Attempt:
        """Run every sample; again where the process of the device was killed meanwhile.

        What fails in a session that others have used before counts if it fails in a fresh one, too.
        """
        is_shared = self.device.is_open and self.device.opened == self._earlier_session

        def once() -> _Attempt:
            return retry_if_killed(
                lambda: self._attempted(program, sites, choices), lambda item: item.is_killed
            )

        attempt = once()
        return once() if is_shared and attempt.verdict not in _RIGHT else attempt

    def _attempted(
        self,
        program: PartitionedProgram,
        sites: frozenset[str],
        choices: SourceChoices | None,
    ) -> _Attempt:
        """Run every sample; the first that differs ends it, and a failure ends the session.

        So what a wrong kernel has left in the device's memory is not blamed on another one later.
        """
        if self._calls.is_renewing and self._calls.so_far():
            self.device.close()
        began = time.perf_counter()
        before = self.device.traffic
        calls_before = self._calls.so_far()
        hybrid: HybridModule | None = None
        linked: float | None = None
        verdict, reason, error, index = Verdict.PASS, "", 0.0, 0
        agreements: list[Agreement] = []
        is_sharp = is_killed = False
        ties: list[str] = []
        try:
            hybrid = self._linked(program, sites, choices)
            linked = time.perf_counter()
            for index, sample in enumerate(self.model.samples):
                if choices is None:
                    outputs = self.model.run(hybrid, sample)
                else:
                    with choices.replaced(index) as found_ties:
                        outputs = self.model.run(hybrid, sample)
                    ties += found_ties.sentences(sample.name)
                comparisons, agreed = self._compare(index, outputs)
                agreements += agreed
                found = worst(comparisons)
                error = max(error, found.error)
                is_sharp |= any(item.is_sharp for item in comparisons)
                if found.verdict is Verdict.MISMATCH:
                    number = next(i for i, item in enumerate(comparisons) if item is found)
                    output = f", output {number}" if len(comparisons) > 1 else ""
                    reason = f"on {sample.name!r}{output}: {found.reason}"
                    verdict, error = found.verdict, found.error
                    break
            else:
                if not is_sharp:
                    verdict, reason = Verdict.INCONCLUSIVE, _BLUNT
        except DeviceFault as fault:
            verdict, reason = verdict_of(fault), str(fault)
            is_killed = was_killed(fault)
        if hybrid is not None and self.device.is_open:
            self._calls.add(_by_unit(hybrid.calls))
        ended = time.perf_counter()
        attempt = _Attempt(
            verdict=verdict,
            reason=reason,
            error=None if verdict in FAULTS else error,
            sample=index,
            link_s=(linked or ended) - began,
            run_s=ended - (linked or ended),
            traffic=self.device.traffic - before,
            agreement=joined(agreements),
            calls=self._calls.so_far(),
            is_used=bool(calls_before),
            is_killed=is_killed,
            ties=tuple(ties),
        )
        if verdict not in _RIGHT:
            self.device.close()
            if hybrid is not None and hybrid.is_shared:
                self.sides.host.forget_weights()
        return attempt

    def _compare(
        self, index: int, outputs: Sequence[Array]
    ) -> tuple[Sequence[Comparison], Sequence[Agreement]]:
        """Compare the outputs of a sample with the source's; once where they are the last ones.

        Most moves change no bit of them, and comparing a model's logits takes as long as a part of
        its run.
        """
        last = self._compared.get(index)
        if last is None or not are_same_arrays(last.outputs, outputs):
            comparisons = compare_all(self.oracles[index], outputs, self.tolerances[index])
            agreements = self._agreements(index, outputs)
            last = _Compared(outputs=outputs, comparisons=comparisons, agreements=agreements)
            self._compared[index] = last
        return last.comparisons, last.agreements

    def _agreements(self, index: int, outputs: Sequence[Array]) -> list[Agreement]:
        meaning = self.model.meaning
        if meaning is None:
            return []
        parts = zip(self.oracles[index], outputs, self.tolerances[index], strict=False)
        return [agreement(meaning, oracle, actual, how) for oracle, actual, how in parts]

    def _linked(
        self,
        program: PartitionedProgram,
        sites: frozenset[str],
        choices: SourceChoices | None = None,
    ) -> HybridModule:
        needs_device = program.device is not None
        return HybridModule(
            self.sides.host,
            program,
            self.device.session if needs_device else None,
            self.sides.device_kernels.files(units_of(sites)),
            callbacks=None if choices is None else choices.callbacks(self.sides.host.device),
        )

    def _where(self, sites: frozenset[str], sample: int) -> str:
        """Run the sites one by one in a fresh session; return a clause about where it ends."""
        if len(sites) < 2:
            return ""
        last: tuple[str, ...] = ()
        try:
            hybrid = self._linked(self.sides.partition(sites, is_merged=False), sites)
            try:
                self.model.run(hybrid, self.model.samples[sample])
            finally:
                last = hybrid.last_sites
        except DeviceFault as fault:
            where = f"it ends in {', '.join(last)}" if last else f"none of them begins: {fault}"
        else:
            where = "all of them return"
        finally:
            # Use a fresh session: earlier calls may have corrupted device memory.
            self.device.close()
        return f" (one site after another, {where})"


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """Outputs of a sample, and how they compare with the source's."""

    outputs: Sequence[Array]
    comparisons: Sequence[Comparison]
    agreements: Sequence[Agreement]


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    verdict: Verdict
    reason: str
    error: float | None
    sample: int
    link_s: float
    run_s: float
    traffic: Traffic
    agreement: Agreement | None
    calls: Counter[str]
    is_used: bool
    is_killed: bool
    ties: tuple[str, ...] = ()


def _by_unit(calls: Mapping[str, int]) -> Counter[str]:
    found = Counter[str]()
    for site, count in calls.items():
        found[Site.parse(site).unit] += count
    return found
