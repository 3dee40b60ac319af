"""Run a model with some of its units on the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import relax

from relax_tapml.arrays import Array
from relax_tapml.capture.host_tensor import tensor_over
from relax_tapml.errors import TapmlError, UsageError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.files.mapped import is_mapped
from relax_tapml.partition._host_guard import HostGuard
from relax_tapml.partition.built_functions import BuiltFunctions, WeightNames
from relax_tapml.partition.bytecode import CompiledFunctions, load_bytecode
from relax_tapml.partition.derived_weights import Derivation, DerivedValues, DerivedWeights
from relax_tapml.partition.program import PartitionedProgram
from relax_tapml.passes import native
from relax_tapml.passes.outline_regions import DOWNLOAD, PARAMETER, RUN, UPLOAD
from relax_tapml.passes.poison_results import PATTERN_BYTES, PoisonedRegion
from relax_tapml.processes.fork import can_fork
from relax_tapml.targets.session.poison import Poison
from relax_tapml.targets.session.session import DeviceModule, DeviceSession, DeviceTensor
from relax_tapml.targets.session.tensors import plain, to_device, to_host
from relax_tapml.targets.session.tvm_device import device_of

# Drawn once for each run of the tool.
_POISON = Poison.draw()


class Host:
    """The source side of every step: its device, its kernels and the weights, loaded once.

    Parameters
    ----------
    target
        What the source's kernels were built for.
    kernels
        Their shared objects.
    params
        Weights by name, in the order of the entry function's parameters.
    units
        The module as prepared for the source, to protect its kernels against wrong values from a
        device (see ``HostGuard``); None without that protection.
    is_forked
        Whether functions are called in forks of this process only. What they write to a weight,
        rightly or not, then stays there, and on a CPU the arrays themselves are used. Otherwise
        this is so with mapped files (``files.mapped``), whose pages are private, and all other
        weights are copied.
    """

    def __init__(
        self,
        target: tvm.target.Target,
        kernels: Sequence[Path],
        params: Mapping[str, Array],
        units: tvm.IRModule | None = None,
        *,
        is_forked: bool = False,
    ) -> None:
        self.guard = HostGuard(units) if units is not None and can_fork(target) else None
        self.device = device_of(target)
        self.params = dict(params)
        self._kernels = [tvm.runtime.load_module(str(path)) for path in kernels]
        self._weights: dict[str, Any] = {}
        self._is_forked = is_forked
        self._is_cpu = self.device.__device_type_name__() == "cpu"
        # Of hybrids, kept from step to step.
        self.derived = DerivedValues()

    def weight(self, name: str) -> Any:
        """Return a weight on the host's device, uploading it on first use.

        Raises
        ------
        UsageError
            There is none of that name.
        """
        if name not in self._weights:
            self._weights[name] = self._uploaded(name)
        return self._weights[name]

    def _uploaded(self, name: str) -> Any:
        if name not in self.params:
            raise UsageError(
                f"the model has no weight '{name}', which one of its functions takes. Add it to "
                "the model's params, or set the function's attribute num_input"
            )
        array, tensor = self.params[name], None
        if self._is_cpu and (self._is_forked or is_mapped(array)):
            tensor = tensor_over(array)
        return self.upload(array) if tensor is None else tensor

    def forget_weights(self) -> None:
        """Upload each weight anew: a device that shares them may have written to them."""
        self._weights.clear()
        self.derived = DerivedValues()

    def take_params(self, params: Mapping[str, Array]) -> None:
        """Use other arrays of the same content, from where they lie."""
        self.params = dict(params)
        if self._is_cpu:  # A GPU has its copies.
            self._weights.clear()

    def take_derived(self, found: Iterable[Derivation], arrays: Mapping[str, Array]) -> None:
        """Use derived weights that have been computed before, in hybrids with nothing on a device.

        Parameters
        ----------
        found
            What derives them.
        arrays
            Values by name, mapped files. Only a CPU uses them: another device computes faster.
        """
        for result in (result for derivation in found for result in derivation.results):
            tensor = tensor_over(arrays[result.name]) if result.name in arrays else None
            if tensor is not None and self._is_cpu:
                self.derived.add(result, tensor, array=arrays[result.name])

    def functions(
        self,
        machine: relax.VirtualMachine,
        weights: WeightNames,
        derived: DerivedWeights | None = None,
    ) -> BuiltFunctions:
        """Return the functions of a VM on the host's device, with those weights that it derives."""

        def derive(derivation: Derivation) -> Any:
            # Weights that nothing else reads are not kept.
            return machine[derivation.function](
                *(
                    self.weight(name) if name in self._weights else self._uploaded(name)
                    for name in derivation.weights
                )
            )

        def weight(name: str) -> Any:
            if derived is not None and name in derived:
                return derived.value(name, derive).tensor
            return self.weight(name)

        return BuiltFunctions(machine, self.upload, weight, weights)

    def upload(self, array: Array) -> Any:
        """Copy an array to the host's device."""
        return to_device(plain(array), self.device)

    def take(self, array: Array) -> Any:
        """Return an array that nobody else uses on the host's device: on a CPU its own memory."""
        tensor = tensor_over(array) if self._is_cpu else None
        return self.upload(array) if tensor is None else tensor

    def virtual_machine(self, functions: CompiledFunctions, *modules: Any) -> relax.VirtualMachine:
        """Return a VM for compiled functions, linked with the source's kernels and ``modules``."""
        native.load()
        executable = load_bytecode(functions.bytecode)
        shapes = [tvm.runtime.load_module(str(path)) for path in functions.shape_functions]
        for module in (*shapes, *self._kernels, *modules):
            executable.import_module(module)
        return relax.VirtualMachine(executable, self.device)


def callback_module(functions: Mapping[str, Callable[..., Any]]) -> Any:
    """Return a module of functions that a program calls by name."""
    native.load()
    make = tvm.get_global_func("relax_tapml.callback_module")
    return make({name: tvm_ffi.convert(function) for name, function in functions.items()})


class HybridModule:
    """A partitioned program, ready to run: ``hybrid["main"](*inputs)``.

    Weights that the device needs are sent to it on first use and stay there. Each value is copied
    at most once in each direction.

    Parameters
    ----------
    host
        The source side.
    program
        From ``partition``.
    session
        The device; it must outlive this object. None where nothing is on the device.
    device_kernels
        Shared objects of the device's kernels.
    callbacks
        More functions that the host's program calls by name.

    Raises
    ------
    DeviceFault
        The device cannot load its program.
    """

    def __init__(
        self,
        host: Host,
        program: PartitionedProgram,
        session: DeviceSession | None = None,
        device_kernels: Sequence[Path] = (),
        callbacks: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        native.load()
        self._host = host
        self._calls: _DeviceCalls | None = None
        self._sites: dict[str, tuple[str, ...]] = {}
        given = callbacks or {}
        derived = DerivedWeights(program.derivations, host.derived)
        if program.device is not None:
            if session is None:
                raise ValueError("a program with units on the device needs a session")
            kernels = (*program.device.shape_functions, *device_kernels)
            module = session.load(program.device.bytecode, kernels)
            host.derived.begin(session)
            self._calls = _DeviceCalls(host, session, module, program.poisoned, derived)
            self._sites = {call.region: call.sites for call in program.calls}
            given = {**given, **self._calls.callbacks()}
        machine = host.virtual_machine(program.host, callback_module(given))
        if host.guard is not None:
            watch = host.guard.instrument(has_device=program.device is not None)
            if watch is not None:
                machine.set_instrument(watch)
        self._functions = host.functions(machine, program.weights, derived)

    @property
    def calls(self) -> Counter[str]:
        """How often each site has been called on the device; regions count for all their sites."""
        made = self._calls.made if self._calls is not None else Counter[str]()
        return Counter(
            {site: made[region] for region, sites in self._sites.items() for site in sites}
        )

    @property
    def is_shared(self) -> bool:
        """Whether both sides use the same weights, on one device of this process."""
        return self._calls is not None and self._calls.is_shared

    @property
    def last_sites(self) -> tuple[str, ...]:
        """Ids of the sites in the last device call; none if there was no call.

        Where calls share a region, these are the sites of the last of them in the program.
        """
        region = self._calls.last_region if self._calls is not None else None
        return self._sites.get(region, ()) if region is not None else ()

    def __getitem__(self, name: str) -> Callable[..., list[Any]]:
        """Return an entry function: it takes input arrays (no weights) and returns a flat list.

        See ``relax_tapml.frontend.model.Functions``. A call raises ``DeviceFault`` if the device
        fails, or if its values crash a kernel of the host.
        """
        return self._followed(name, self._functions[name])

    def runtime(self, name: str) -> Callable[..., Any]:
        """Return a function of the runtime on the host, where objects are.

        It may call kernels, so a call raises as one of an entry function does.
        """
        return self._followed(name, self._functions.runtime(name))

    def _followed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that raises what ended its call, on either side."""

        def call(*values: Any) -> Any:
            try:
                return function(*values)
            except Exception as error:
                # The VM replaces a Python exception by one of another class.
                end = self._take_end()
                if end is not None:
                    raise end from None
                raise_machine_error(error, f"running {name}")
                raise

        return call

    def _take_end(self) -> TapmlError | None:
        """Return the error that ended the last call, on either side."""
        guard = self._host.guard
        end = guard.take_end() if guard is not None else None
        if end is not None or self._calls is None:
            return end
        return self._calls.take_end()


class _DeviceCalls:
    """The functions that the host's bytecode calls to use the device.

    The VM refers to these callbacks, so they must not refer to the VM: in such a cycle neither the
    VM nor its program on the device would ever be freed.
    """

    def __init__(
        self,
        host: Host,
        session: DeviceSession,
        module: DeviceModule,
        poisoned: Mapping[str, PoisonedRegion],
        derived: DerivedWeights,
    ) -> None:
        self._host = host
        self._derived = derived
        self._poisoned = poisoned
        self._session = session
        self._module = module
        self._patterns: dict[int, DeviceTensor] = {}
        # Both sides on one device of this process: nothing goes through memory of the CPU.
        self.is_shared = session.shares(host.device)
        self._end: TapmlError | None = None
        self.last_region: str | None = None
        self.made: Counter[str] = Counter()

    def callbacks(self) -> dict[str, Any]:
        """Return the functions by the names that ``OutlineRegions`` calls."""
        functions = {
            UPLOAD: self._upload,
            PARAMETER: self._parameter,
            RUN: self._run,
            DOWNLOAD: self._download,
        }
        return {name: self._guarded(function) for name, function in functions.items()}

    def take_end(self) -> TapmlError | None:
        """Return the error by which the device ended the last call, if any."""
        end, self._end = self._end, None
        return end

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any) -> Any:
            try:
                return function(*args)
            except TapmlError as end:
                self._end = end
                raise

        return guarded

    def _upload(self, tensor: Any) -> Any:
        if self.is_shared:
            return self._session.copy(tensor, is_upload=True)
        return self._session.upload(to_host(tensor))

    def _parameter(self, name: str) -> Any:
        if name in self._derived:
            if self.is_shared:
                return self._derived.value(name).tensor
            return self._derived.on_device(name)
        if self.is_shared:
            return self._host.weight(name)
        return self._session.parameter(name, self._host.params[name])

    def _run(self, region: str, *args: Any) -> Any:
        self.last_region = region
        self.made[region] += 1
        values = [tuple(a) if isinstance(a, tvm_ffi.Shape) else a for a in args]
        if region in self._poisoned:
            values.append(self._pattern(self._poisoned[region], values))
        return tvm_ffi.convert(self._session.call(self._module, region, values))

    def _pattern(self, region: PoisonedRegion, values: Sequence[Any]) -> Any:
        """Return a pattern on the device that is as long as a region needs it."""
        shapes = [value if isinstance(value, tuple) else tuple(value.shape) for value in values]
        # Powers of two, since a pattern of each length is made and sent once.
        size = max(PATTERN_BYTES, 1 << (region.size_bytes(shapes) - 1).bit_length())
        if size not in self._patterns:
            pattern = _POISON.pattern(size)
            self._patterns[size] = self._session.parameter(_POISON.name(size), pattern)
        return self._patterns[size]

    def _download(self, tensor: Any) -> Any:
        if self.is_shared:
            return self._session.copy(tensor, is_upload=False)
        return self._derived.download(tensor, self._fetched)

    def _fetched(self, tensor: Any) -> Any:
        return self._host.take(self._session.download(tensor))
