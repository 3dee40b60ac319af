"""Weights that a program computes from others, each of them once."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import relax

from relax_tapml.arrays import Array, are_same_bytes
from relax_tapml.capture.host_tensor import HostTensor
from relax_tapml.passes.operator_call import operator_functions
from relax_tapml.passes.site import Site, site_of
from relax_tapml.passes.value_leaves import Leaf, ValueLeaves, bindings_in
from relax_tapml.passes.weights import DERIVED_ATTR, weight_params
from relax_tapml.targets.session.session import DeviceSession, DeviceTensor
from relax_tapml.targets.session.tensors import free_kept, to_host

_ORDINAL = re.compile(r"#\d+")
# More memory than this, of values that were derived, is given back to the system.
_KEPT_BYTES = 1 << 28


@dataclass(frozen=True, kw_only=True)
class DerivedWeight:
    """A weight that a site computes from other weights.

    Parameters
    ----------
    name
        Of the parameter that takes it: ``permute_dims(p_fc_weight)``.
    origin
        The id of the site, and which of its results it is; the same whatever else is lifted.
    device_sites
        The sites on the device that it is computed by, directly or not, in order.
    """

    name: str
    origin: str = ""
    device_sites: tuple[str, ...] = ()

    @property
    def expression(self) -> str:
        """What computes it; several weights may have one expression."""
        return _ORDINAL.sub("", self.name)


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """A function of a program that computes derived weights.

    Parameters
    ----------
    function
        Its name in the VM.
    weights
        The names of the weights that it takes.
    results
        What it returns, in order.
    """

    function: str
    weights: tuple[str, ...]
    results: tuple[DerivedWeight, ...]


def derivations(module: tvm.IRModule, device_sites: Collection[str] = ()) -> tuple[Derivation, ...]:
    """Return the functions that ``LiftDerivedWeights`` has added to a module.

    Parameters
    ----------
    module
        With these functions as they were made.
    device_sites
        Ids of the sites on the device.
    """
    return tuple(
        Derivation(
            function=gvar.name_hint,
            weights=tuple(var.name for var in weight_params(function)),
            results=tuple(_results(function, device_sites)),
        )
        for gvar, function in operator_functions(module)
        if DERIVED_ATTR in (function.attrs or {})
    )


def deriving_units(module: tvm.IRModule) -> frozenset[str]:
    """Return the units whose sites ``LiftDerivedWeights`` has moved."""
    return frozenset(site.unit for site in _lifted(module))


def lifted_sites(module: tvm.IRModule) -> frozenset[str]:
    """Return the ids of the sites that ``LiftDerivedWeights`` has moved."""
    return frozenset(site.id for site in _lifted(module))


def _lifted(module: tvm.IRModule) -> Iterator[Site]:
    for _, function in operator_functions(module):
        if DERIVED_ATTR not in (function.attrs or {}):
            continue
        for binding in bindings_in(function.body):
            site = site_of(binding.value) if isinstance(binding.value, relax.Call) else None
            if site is not None:
                yield site


def _results(function: relax.Function, device_sites: Collection[str]) -> list[DerivedWeight]:
    leaves = ValueLeaves()
    sites: dict[relax.Expr, Site] = {}
    chains: dict[relax.Expr, frozenset[str]] = {}
    for binding in bindings_in(function.body):
        if leaves.bind(binding):
            continue
        site = site_of(binding.value) if isinstance(binding.value, relax.Call) else None
        if site is None:  # Nothing that computes, as the calls of a capture.
            continue
        read = {leaf.root for v in relax.analysis.free_vars(binding.value) for leaf in leaves.of(v)}
        sites[binding.var] = site
        chains[binding.var] = frozenset({site.id}).union(
            *(chains[root] for root in read if root in chains)
        )
    names = map(str, function.attrs[DERIVED_ATTR])
    return [
        DerivedWeight(
            name=name,
            origin=_origin(sites[leaf.root], leaf),
            device_sites=tuple(sorted(chains[leaf.root].intersection(device_sites))),
        )
        for name, leaf in zip(names, leaves.of(function.body.body), strict=True)
    ]


def _origin(site: Site, leaf: Leaf) -> str:
    return ".".join((site.id, *map(str, leaf.path)))


@dataclass(frozen=True, kw_only=True)
class DerivedValue:
    """The value of a derived weight.

    Parameters
    ----------
    key
        Names the value for a device: the weight's name, or another where that has other bits.
    tensor
        On the host's device.
    array
        The same on the CPU, where it is in a file; None elsewhere.
    """

    key: str
    tensor: Any
    array: Array | None = None


@dataclass
class DerivedValues:
    """The values of derived weights on a host, kept from program to program.

    A value depends on which of the sites that compute it are on the device. One that a device has
    computed is forgotten with the session. Equal values of one expression share their memory, and a
    device gets them once; one that maps files has no copy of what lies in a file.
    """

    _values: dict[tuple[str, tuple[str, ...]], DerivedValue] = field(default_factory=dict)
    _sent: dict[str, DeviceTensor] = field(default_factory=dict)
    _session: DeviceSession | None = None
    _alike: dict[str, list[DerivedValue]] = field(default_factory=dict)
    _keys: set[str] = field(default_factory=set)
    # Bytes that were derived since memory was given back.
    _derived_bytes: int = 0

    def begin(self, session: DeviceSession) -> None:
        """Forget what another session than this one has computed or was given."""
        if session is self._session:
            return
        self._session = session
        self._sent.clear()
        self._values = {key: value for key, value in self._values.items() if not key[1]}
        self._keys = {value.key for value in self._values.values()}
        self._alike = {
            expression: [value for value in values if value.key in self._keys]
            for expression, values in self._alike.items()
        }

    def of(self, weight: DerivedWeight) -> DerivedValue | None:
        """Return the value of a weight; None if it has not been computed."""
        return self._values.get((weight.origin, weight.device_sites))

    def add(
        self,
        weight: DerivedWeight,
        tensor: Any,
        *,
        copy: DeviceTensor | None = None,
        array: Array | None = None,
    ) -> None:
        """Keep a value; where an equal one of the same expression is kept, that one.

        Parameters
        ----------
        weight
            Whose value it is.
        tensor
            On the host's device.
        copy
            On the session's device, which has computed it; None if it has not.
        array
            The same in a file, if it is.
        """
        if self.of(weight) is not None:
            return
        alike = self._alike.setdefault(weight.expression, [])
        value = next((value for value in alike if _is_equal(value.tensor, tensor)), None)
        if value is None:
            value = DerivedValue(key=self._free_key(weight.name), tensor=tensor, array=array)
            alike.append(value)
        self._values[weight.origin, weight.device_sites] = value
        if copy is not None and not self._is_mapped(value):
            self._sent.setdefault(value.key, copy)

    def equal_to(self, copy: DeviceTensor, weights: Sequence[DerivedWeight]) -> Any | None:
        """Return the tensor of a kept value that a tensor of the device equals, without a copy.

        Parameters
        ----------
        copy
            A tensor of the session's device.
        weights
            It may be one of these; only values of their expressions are looked at.

        Returns
        -------
        tensor or None
            On the host's device; None if none is equal, or all of them lie elsewhere than on a CPU.
        """
        assert self._session is not None
        for expression in {weight.expression for weight in weights}:
            for value in self._alike.get(expression, ()):
                array = _array(value)
                if (
                    array is not None
                    and tuple(copy.shape) == array.shape
                    and str(copy.dtype) == array.dtype.name
                    and self._session.holds(copy, array)
                ):
                    return value.tensor
        return None

    def note_derived(self, size_bytes: int) -> None:
        """Give memory back to the system that VMs keep, once so many bytes were derived.

        They keep it for results of the same size, of which there will be none.
        """
        self._derived_bytes += size_bytes
        if self._derived_bytes > _KEPT_BYTES:
            self._derived_bytes = 0
            free_kept()
            if self._session is not None:
                self._session.free_kept()

    def _is_mapped(self, value: DerivedValue) -> bool:
        assert self._session is not None
        return value.array is not None and self._session.maps(value.array)

    def on_device(self, value: DerivedValue) -> DeviceTensor:
        """Return the copy of a value that the session keeps."""
        assert self._session is not None
        if value.key not in self._sent:
            array = to_host(value.tensor) if value.array is None else value.array
            self._sent[value.key] = self._session.parameter(value.key, array)
        return self._sent[value.key]

    def _free_key(self, name: str) -> str:
        key, count = name, 1
        while key in self._keys:
            count += 1
            key = f"{name} ({count})"
        self._keys.add(key)
        return key


class DerivedWeights:
    """The derived weights of one program, by name.

    It does not hold the program, so what a program calls may hold it.

    Parameters
    ----------
    derivations
        Of the program.
    values
        Where values are kept; by default they are kept for this program only.

    Attributes
    ----------
    seconds
        In which weights were derived, of the calls of the program that needed them.
    """

    def __init__(
        self, derivations: Sequence[Derivation] = (), values: DerivedValues | None = None
    ) -> None:
        self._values = DerivedValues() if values is None else values
        self._downloads: list[tuple[Any, DeviceTensor]] = []
        self._deriving: Derivation | None = None
        self.seconds = 0.0
        self._found = {
            result.name: (derivation, result)
            for derivation in derivations
            for result in derivation.results
        }

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def value(
        self, name: str, derive: Callable[[Derivation], Sequence[Any]] | None = None
    ) -> DerivedValue:
        """Return the value of a derived weight.

        Parameters
        ----------
        name
            Of the weight.
        derive
            Runs the function that computes it, unless that was done before.
        """
        derivation, weight = self._found[name]
        value = self._values.of(weight)
        if value is None and derive is not None:
            began = time.perf_counter()
            self._values.note_derived(self._derived(derivation, derive))
            self.seconds += time.perf_counter() - began
            value = self._values.of(weight)
        assert value is not None, f"{name} was not derived before the program was run"
        return value

    def _derived(
        self, derivation: Derivation, derive: Callable[[Derivation], Sequence[Any]]
    ) -> int:
        """Derive and keep values; return their bytes. What equals a kept value is not held."""
        size_bytes = 0
        self._deriving = derivation
        try:
            for result, tensor in zip(derivation.results, derive(derivation), strict=True):
                copies = (copy for one, copy in self._downloads if one.same_as(tensor))
                self._values.add(result, tensor, copy=next(copies, None))
                size_bytes += math.prod(tensor.shape) * tensor.dtype.itemsize
        finally:
            self._deriving = None
            self._downloads.clear()
        return size_bytes

    def download(self, copy: DeviceTensor, fetch: Callable[[DeviceTensor], Any]) -> Any:
        """Return a tensor of the device on the host.

        What the device has derived need not be sent to it; and where the host has the same value
        already, that one is returned, which nothing writes to.

        Parameters
        ----------
        copy
            On the session's device.
        fetch
            Copies it.
        """
        if self._deriving is None:
            return fetch(copy)
        tensor = self._values.equal_to(copy, self._deriving.results)
        tensor = fetch(copy) if tensor is None else tensor
        self._downloads.append((tensor, copy))
        return tensor

    def on_device(self, name: str) -> DeviceTensor:
        """Return the device's copy of a derived weight that the host has."""
        return self._values.on_device(self.value(name))


def _array(value: DerivedValue) -> Array | None:
    """Return a value as an array over its memory; None where that is not the CPU's."""
    if value.array is not None:
        return value.array
    return HostTensor.view_of(value.tensor).array() if _is_plain(value.tensor) else None


def _is_equal(a: Any, b: Any) -> bool:
    if a.same_as(b):
        return True
    if str(a.dtype) != str(b.dtype) or tuple(a.shape) != tuple(b.shape):
        return False
    return are_same_bytes(_bytes(a), _bytes(b))


def _bytes(tensor: Any) -> Array:
    return (HostTensor.view_of if _is_plain(tensor) else HostTensor.copy_of)(tensor).data


def _is_plain(tensor: Any) -> bool:
    is_cpu = tensor.device.dlpack_device_type() == tvm.cpu().dlpack_device_type()
    return bool(is_cpu and tensor.is_contiguous())
