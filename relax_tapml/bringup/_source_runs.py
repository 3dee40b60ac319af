"""Programs of the source, run in forks, and the operator at which one of them fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.arrays import Array
from relax_tapml.bringup._watched_calls import CallFailed, WatchedFunctions, noting
from relax_tapml.errors import SourceError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.frontend.model import Functions, Model, Sample
from relax_tapml.partition.built_functions import weight_names
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.derived_weights import (
    DerivedValues,
    DerivedWeights,
    derivations,
    deriving_units,
)
from relax_tapml.partition.hybrid import Host, callback_module
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.passes.insert_capture import InsertCapture
from relax_tapml.passes.kernel_failed import KernelFailed
from relax_tapml.passes.lift_derived_weights import LiftDerivedWeights
from relax_tapml.printable import message_line
from relax_tapml.processes.fork import (
    ForkChannel,
    ForkFailed,
    ForkRetries,
    Message,
    can_fork,
    forked,
)
from relax_tapml.progress import Stage
from relax_tapml.system import FORKS_ARE_SAFE

_log = logging.getLogger(__name__)
# What fails now and then, or only after a while, is to be met again.
_TRIALS = 3


@dataclass(frozen=True, kw_only=True)
class SourceProgram:
    """A module of the source, ready to run.

    Parameters
    ----------
    host
        Has the weights.
    machine
        The VM.
    lifted
        What it was compiled from, with functions that derive weights.
    """

    host: Host
    machine: Any
    lifted: tvm.IRModule

    @property
    def deriving_units(self) -> frozenset[str]:
        """The units that derive weights, and so run once."""
        return deriving_units(self.lifted)

    def derived_weights(self, values: DerivedValues | None = None) -> DerivedWeights:
        """Return the weights that it derives, each once; those of ``values`` are not derived."""
        return DerivedWeights(derivations(self.lifted), values)

    def functions(
        self,
        derived: DerivedWeights | None = None,
        *,
        on_call: Callable[[str, Sequence[Any]], None] = lambda _name, _values: None,
    ) -> Functions:
        """Return its functions.

        Parameters
        ----------
        derived
            Of ``derived_weights``; by default all are derived anew.
        on_call
            Gets the name of each function that is called, and the arguments.
        """
        names = weight_names(self.lifted)
        derived = derived or self.derived_weights()
        return WatchedFunctions(self.host.functions(self.machine, names, derived), on_call)


class SourceRuns:
    """Runs programs of a model on its source.

    Whatever it runs, runs in a fork (``relax_tapml.processes.fork``), because a kernel of the
    source may crash as one of the target may. Only a source that cannot be forked runs in this
    process.

    Parameters
    ----------
    model
        The model; its samples are what is run.
    units
        The lowered module as prepared for the source.
    target
        The source target.
    kernels
        The files of the source's kernels.
    library
        Where they were built.

    Attributes
    ----------
    host, forked_host
        Of the hybrids of a migration, and of what runs in forks; the same where nothing does.
    """

    def __init__(
        self,
        model: Model,
        units: tvm.IRModule,
        target: tvm.target.Target,
        kernels: Sequence[Path],
        library: KernelLibrary,
    ) -> None:
        self.model = model
        self.units = units
        self.target = target
        self._library = library
        self.host = self.forked_host = Host(target, kernels, model.params, units)
        if can_fork(target):
            self.forked_host = Host(target, kernels, model.params, is_forked=True)
        elif not FORKS_ARE_SAFE:
            _log.warning(
                "the source runs in this process, because forks are not safe on this system: if a "
                "kernel of it crashes, this process ends with it"
            )

    def take_model(self, model: Model, derived: Mapping[str, Array], lowered: tvm.IRModule) -> None:
        """Run another model from now on, which differs in where its weights lie only.

        Parameters
        ----------
        model
            With the same weights.
        derived
            Derived weights by name, as the source has computed them; those that lack are computed.
        lowered
            Hybrids are made of it.
        """
        self.model = model
        own = derivations(self.lifted)
        # A pipeline of the source may have changed what it derives.
        is_alike = derivations(LiftDerivedWeights()(lowered)) == own
        self.forked_host.take_params(model.params)
        self.forked_host.take_derived(own, derived)
        if self.host is not self.forked_host:
            self.host.take_params(model.params)
            self.host.take_derived(own if is_alike else (), derived)

    def watched(
        self,
        work: Callable[[ForkChannel], None],
        stage: Stage,
        *,
        how: str = "",
        on_told: Callable[[Message], None] = lambda _message: None,
    ) -> Iterator[list[Array]]:
        """Do work that runs samples in a fork; yield the arrays that it sends.

        Parameters
        ----------
        work
            Sends ``{"sample": index}`` before a sample, and arrays with the document None.
        stage
            Shows the progress.
        how
            What is special about these runs, for people.
        on_told
            Called with each message that tells the sample; it may hold more.

        Raises
        ------
        SourceError
            The source crashed, or a call of it failed.
        """
        index = 0

        def guarded(fork: ForkChannel) -> None:
            try:
                work(fork)
            except (CallFailed, KernelFailed) as failure:
                raise_machine_error(failure, "running the source")
                fork.send({"failed": message_line(failure, -1)})

        self.weights()  # Here, or every fork would upload them for itself.
        try:
            for message in forked(guarded, is_safe=can_fork(self.target)):
                if message.document is None:
                    yield list(message.arrays)
                elif "failed" in message.document:
                    raise self._failed(index, f"fails: {message.document['failed']}", "", how)
                else:
                    on_told(message)
                    index = message.document["sample"]
                    count = len(self.model.samples)
                    stage.update(index, count)
                    stage.say(f"running sample {index + 1} of {count}{how}")
        except ForkFailed as death:
            ForkRetries(f"running the source{how}", most_kills=1).allows(death)
            raise self._failed(index, death.text, death.at, how) from None

    def _failed(self, index: int, cause: str, at: str, how: str) -> SourceError:
        sample = self.model.samples[index]
        at = at or self._where(sample)
        return SourceError(
            f"the source {self.target.kind.name} {cause} on sample {sample.name!r}{how}, "
            f"{f'in {at}' if at else 'in no operator when it is run again'}. A source must run "
            "the whole model: look for a division by zero, an index outside its tensor, or inputs "
            "that the model does not allow. The target was not judged"
        )

    def _where(self, sample: Sample) -> str:
        """Run a sample again, each call noted before it begins; return where that ends."""
        program = self.program(InsertCapture()(self.lifted))

        def work(fork: ForkChannel) -> None:
            functions = program.functions()
            last = ""

            def note(at: str) -> None:
                nonlocal last
                last = at
                fork.note(at)

            program.machine.set_instrument(noting(note))
            try:
                for _ in range(_TRIALS):
                    self.model.run(functions, sample)
            except (CallFailed, KernelFailed):
                fork.send(last)

        try:
            found = [message.document for message in forked(work, is_safe=can_fork(self.target))]
        except ForkFailed as death:
            return death.at
        return found[0] if found else ""

    def weights(self) -> dict[str, Any]:
        """Return the weights that functions take, on the source's device."""
        host = self.forked_host
        names = {name for each in weight_names(self.lifted).values() for name in each}
        if host is not self.host:
            # These are no copies. A GPU need not keep what it only derives other weights from.
            names.update(name for item in derivations(self.lifted) for name in item.weights)
        return {name: host.weight(name) for name in host.params if name in names}

    @cached_property
    def lifted(self) -> tvm.IRModule:
        return LiftDerivedWeights()(self.units)

    def program(
        self, lifted: tvm.IRModule, callbacks: Mapping[str, Callable[..., Any]] | None = None
    ) -> SourceProgram:
        functions = compile_functions(lifted, self.target, self._library)
        machine = self.forked_host.virtual_machine(functions, callback_module(callbacks or {}))
        return SourceProgram(host=self.forked_host, machine=machine, lifted=lifted)
