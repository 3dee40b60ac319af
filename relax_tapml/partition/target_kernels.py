"""The kernels that a model has for another target, in the place of those of its lowered module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import tvm
from tvm import relax, tirx

from relax_tapml.partition._kernel_uses import KernelUse, kernel_uses
from relax_tapml.partition.kernel_interface import KernelInterface
from relax_tapml.passes.notes import Note, notes_of
from relax_tapml.passes.submodule import is_same


@dataclass(frozen=True, kw_only=True)
class TargetKernels:
    """Kernels that a compiler made for a target, under the names of a lowered module.

    Parameters
    ----------
    kernels
        By the name of the kernel that each one replaces. Kernels that are the same for both
        targets are not in it.
    notes
        What was done to the module that was made for the target; kernels by the same names.
    names
        What the compiler calls them, by the same names.
    lacking
        Kernels that the runtime calls and that have no counterpart: name to reason. They are made
        for the source and may not be run on the target.
    """

    kernels: Mapping[str, tirx.PrimFunc] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything differs by target."""
        return bool(self.kernels or self.lacking)

    def applied(self, module: tvm.IRModule) -> tvm.IRModule:
        """Return a module with these kernels in the place of those of the same names."""
        changed = {
            gvar: self.kernels[gvar.name_hint]
            for gvar in module.functions
            if gvar.name_hint in self.kernels
        }
        if not changed:
            return module
        result = module.clone()
        for gvar, kernel in changed.items():
            result.update_func(gvar, _named_like(kernel, module[gvar]))
        return result


SAME = TargetKernels()
"""Of a model whose kernels do not differ by target."""


def given_kernels(lowered: tvm.IRModule) -> dict[str, str]:
    """Return the kernels that a module gives to the runtime: name to the function that gets it."""
    return {use.kernel: use.receiver for use in kernel_uses(lowered) if use.receiver}


def kernel_receivers(lowered: tvm.IRModule) -> tuple[str, ...]:
    """Return the functions that a module gives kernels to, each once: they make caches and such."""
    return tuple(dict.fromkeys(use.receiver for use in kernel_uses(lowered) if use.receiver))


def pair_kernels(lowered: tvm.IRModule, other: tvm.IRModule) -> TargetKernels:
    """Find the counterparts of a module's kernels in the same model made for another target.

    Two kernels are counterparts if they are used in the same place, by calls of the same values,
    and have the same interface. Kernels that are given to the runtime may be given to it in
    another place; there the only unused kernel of that interface is the counterpart. Names say
    nothing.

    Parameters
    ----------
    lowered
        From ``lower``.
    other
        From ``lower`` too: the model made for the other target.
    """
    return _Pairing(lowered, other).result()


class _Pairing:
    def __init__(self, lowered: tvm.IRModule, other: tvm.IRModule) -> None:
        self._own = _Side(lowered)
        self._other = _Side(other)
        known = notes_of(lowered)
        self._notes = [note for note in notes_of(other) if note not in known]
        self._more = sorted(_public(other) - _public(lowered))
        self._kernels: dict[str, tirx.PrimFunc] = {}
        self._names: dict[str, str] = {}
        self._lacking: dict[str, str] = {}

    def result(self) -> TargetKernels:
        found = self._in_same_place()
        placed = {name: others[0] for name, others in found.items() if self._are_equal(others)}
        pairs = {
            name: other
            for name, other in placed.items()
            if self._fits(name, other) and self._is_only(name, other, placed)
        }
        unused = [n for n in self._other.given if n not in pairs.values()]
        left = [name for name in self._own.given if name not in pairs]
        fitting = {name: [n for n in unused if self._fits(name, n)] for name in left}
        for name, others in fitting.items():
            rivals = [n for n in left if n != name and set(others) & set(fitting[n])]
            if len(others) == 1 and not rivals:
                pairs[name] = others[0]
            else:
                self._lacking[name] = self._why(name, found.get(name, []), others)
        # What a place has there, and what an engine calls by name, is not the source's kernel.
        for name in dict.fromkeys([*found, *self._own.written]):
            if name not in pairs and name not in self._lacking:
                self._lacking[name] = self._why(name, found.get(name, []), [])
        for name, other in pairs.items():
            if not is_same(_anonymous(self._own[name]), _anonymous(self._other[other])):
                self._kernels[name], self._names[name] = self._other[other], other
        own = {other: name for name, other in pairs.items()}
        return TargetKernels(
            kernels=self._kernels,
            notes=(
                *(
                    Note(note.text, tuple(own.get(kernel, kernel) for kernel in note.kernels))
                    for note in self._notes
                ),
                *([_untested(self._more)] if self._more else []),
            ),
            names=self._names,
            lacking=self._lacking,
        )

    def _in_same_place(self) -> dict[str, list[str]]:
        """Return the kernels of the other module that are used where each own one is."""
        found: dict[str, list[str]] = defaultdict(list)
        for place, uses in self._own.uses.items():
            others = self._other.uses.get(place, [])
            # What uses the same values in the same way more than once must always be the same.
            kernels, candidates = ({use.kernel for use in one} for one in (uses, others))
            if len(kernels) == len(candidates) == 1 and len(uses) == len(others):
                (name,), (other,) = kernels, candidates
                if other not in found[name]:
                    found[name].append(other)
        return found

    def _are_equal(self, others: Sequence[str]) -> bool:
        first, *rest = (_anonymous(self._other[other]) for other in others)
        return all(is_same(first, one) for one in rest)

    def _is_only(self, name: str, other: str, placed: Mapping[str, str]) -> bool:
        """Whether no other own kernel, apart from equal ones, is in the place of a kernel."""
        rivals = (self._own[n] for n, found in placed.items() if found == other and n != name)
        return all(is_same(_anonymous(self._own[name]), _anonymous(one)) for one in rivals)

    def _fits(self, name: str, other: str) -> bool:
        return self._other.interface(other).fits(self._own.interface(name))

    def _why(self, name: str, placed: Sequence[str], fitting: Sequence[str]) -> str:
        own = self._own.interface(name)
        if fitting:
            return (
                f"it is made for the source, and it is not clear which kernel of the target stands "
                f"for it, {' or '.join(fitting)}, of {own}"
            )
        if not placed:
            return f"it is made for the source, and the target has no kernel in its place: {own}"
        listed = "; ".join(f"{other}: {self._other.interface(other)}" for other in placed)
        return (
            f"it is made for the source, and the target's kernel in its place has another "
            f"interface. Here {own}; there {listed}"
        )


def _public(module: tvm.IRModule) -> set[str]:
    return {
        gvar.name_hint
        for gvar, function in module.functions.items()
        if isinstance(function, relax.Function) and "global_symbol" in (function.attrs or {})
    }


def _untested(names: Sequence[str]) -> Note:
    return Note(
        f"made for the target, the model also has {', '.join(names)}, which the source has not: "
        "they were not tested. A source of the target's kind has them"
    )


class _Side:
    """The kernels of one module and where they are used."""

    def __init__(self, module: tvm.IRModule) -> None:
        self._functions = {g.name_hint: f for g, f in module.functions.items()}
        self._interfaces: dict[str, KernelInterface] = {}
        self.uses: dict[str, list[KernelUse]] = defaultdict(list)
        for use in kernel_uses(module):
            self.uses[use.place].append(use)

    def __getitem__(self, name: str) -> tirx.PrimFunc:
        return self._functions[name]

    @cached_property
    def given(self) -> list[str]:
        """The kernels that are given to the runtime, each once."""
        uses = (use for uses in self.uses.values() for use in uses)
        return list(dict.fromkeys(use.kernel for use in uses if use.receiver))

    @cached_property
    def written(self) -> list[str]:
        """The kernels that write to their arguments and are called by name, each once."""
        uses = (use for uses in self.uses.values() for use in uses)
        return list(dict.fromkeys(use.kernel for use in uses if use.is_written))

    def interface(self, name: str) -> KernelInterface:
        if name not in self._interfaces:
            self._interfaces[name] = KernelInterface.of(self[name])
        return self._interfaces[name]


def _anonymous(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    return kernel.without_attr("global_symbol")


def _named_like(kernel: tirx.PrimFunc, replaced: tirx.PrimFunc) -> tirx.PrimFunc:
    symbol = (replaced.attrs or {}).get("global_symbol")
    if symbol is None:
        return _anonymous(kernel)
    return kernel.with_attr("global_symbol", symbol)
