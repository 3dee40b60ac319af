"""One unit of a merged suite: a kernel, and the cases that several suites have of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import GlobalVar

from relax_tapml.passes.operator_call import UNIT_ATTR
from relax_tapml.passes.submodule import is_same, retarget_calls
from relax_tapml.suite.manifest import SuiteCase, SuiteDim, SuiteUnit

# Kernels of a target by the names of those that they stand for.
TargetFunctions: TypeAlias = Mapping[str, tirx.PrimFunc]


@dataclass(kw_only=True)
class MergedUnit:
    """A unit taken apart into its kernel and the functions that do its cases.

    Parameters
    ----------
    name
        Of the unit.
    kernels
        Its functions without those of cases; none for a unit that only calls external code.
    callers
        The functions of cases by name.
    cases
        In order.
    like
        The module it was read from, for what is no function in it.
    constant_inputs, inexact
        As in ``SuiteUnit``.
    dims
        Its symbolic dimensions that had one value only, in each suite that it comes from.
    targets
        By target, the kernels that it has there in the place of some, or why it has none.
    """

    name: str
    kernels: dict[GlobalVar, tvm.ir.BaseFunc]
    callers: dict[str, relax.Function]
    cases: list[SuiteCase]
    like: tvm.IRModule
    constant_inputs: tuple[str, ...]
    inexact: str
    dims: list[SuiteDim] = field(default_factory=list)
    targets: dict[str, TargetFunctions | str] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        name: str,
        module: tvm.IRModule,
        entry: SuiteUnit,
        targets: Mapping[str, TargetFunctions | str],
    ) -> MergedUnit:
        """Take the module of a unit apart."""
        called = {case.function for case in entry.cases}
        kernels = {g: module[g] for g in module.functions if g.name_hint not in called}
        return cls(
            name=name,
            # The unit itself first, then by name, so that equal kernels have equal places.
            kernels=dict(sorted(kernels.items(), key=lambda item: _place(name, *item))),
            callers={g.name_hint: module[g] for g in module.functions if g.name_hint in called},
            cases=list(entry.cases),
            like=module,
            constant_inputs=entry.constant_inputs,
            inexact=entry.inexact,
            dims=list(entry.dims_seen_once),
            targets=dict(targets),
        )

    def has_kernel_of(self, other: MergedUnit) -> bool:
        """Return whether both compute the same, on each target, whatever the names are.

        A unit without a kernel of its own is known by its name, that of the external function.
        """
        if not _are_same(self.targets, other.targets):
            return False
        if not self.kernels or not other.kernels:
            return not self.kernels and not other.kernels and self.name == other.name
        return bool(tvm_ffi.structural_equal(self._plain_kernels(), other._plain_kernels()))

    def named(self, name: str) -> MergedUnit:
        """Return the unit under another name; its kernel gets that name, too."""
        if name == self.name or not self.kernels:
            return replace(self, name=name)
        suffix = name.removeprefix(self.name)
        renamed = {
            gvar.name_hint: _typed(
                name if gvar.name_hint == self.name else gvar.name_hint + suffix, gvar
            )
            for gvar in self.kernels
        }
        return replace(
            self,
            name=name,
            kernels={
                renamed[gvar.name_hint]: _marked(retarget_calls(f, renamed), self.name, name)
                for gvar, f in self.kernels.items()
            },
            callers={key: retarget_calls(f, renamed) for key, f in self.callers.items()},
            targets=_renamed(self.targets, {old: new.name_hint for old, new in renamed.items()}),
        )

    def take_cases(self, other: MergedUnit, label: str) -> int:
        """Add the cases of a unit with the same kernel; return how many were there already.

        Parameters
        ----------
        other
            A unit for which ``has_kernel_of`` is true.
        label
            Put before the name of a case if that name is taken; with a number if a suite of this
            label was merged before.
        """
        theirs = (gvar.name_hint for gvar in other.kernels)
        renamed = dict(zip(theirs, self.kernels, strict=True))
        self.dims += [dim for dim in other.dims if dim not in self.dims]
        known = {_identity(case) for case in self.cases}
        names = {case.name for case in self.cases}
        # An input that is constant in both suites, but with different values, is not constant.
        same = {text for text in other.constant_inputs if ": all " in text}
        kept = [text for text in self.constant_inputs if text in same]
        self.constant_inputs = tuple(kept)
        self.inexact = self.inexact and other.inexact
        equal = 0
        for case in other.cases:
            function = self._caller(retarget_calls(other.callers[case.function], renamed))
            taken = replace(case, function=function)
            if _identity(taken) in known:
                equal += 1
                continue
            taken = replace(taken, name=_free(case.name, label, names))
            known.add(_identity(taken))
            names.add(taken.name)
            self.cases.append(taken)
        used = {case.function for case in self.cases}
        self.callers = {name: f for name, f in self.callers.items() if name in used}
        return equal

    def module(self) -> tvm.IRModule:
        """Return the module of the unit."""
        functions = dict(self.kernels)
        for name, function in self.callers.items():
            gvar = GlobalVar(name)
            relax.expr._update_type(gvar, function.ty)
            functions[gvar] = function.with_attr("global_symbol", name)
        return tvm.IRModule(functions, attrs=self.like.attrs, global_infos=self.like.global_infos)

    def _caller(self, function: relax.Function) -> str:
        """Return the name of a function that does a case, adding it unless its equal is there."""
        for name, known in self.callers.items():
            if tvm_ffi.structural_equal(_anonymous(known), _anonymous(function)):
                return name
        taken = {*self.callers, *(gvar.name_hint for gvar in self.kernels)}
        count = len(self.callers)
        while (name := f"main_{count}") in taken:
            count += 1
        self.callers[name] = function
        return name

    def _plain_kernels(self) -> tvm.IRModule:
        """Return the kernels under names that every unit gives them."""
        plain = {
            gvar.name_hint: _typed(f"kernel_{place}", gvar)
            for place, gvar in enumerate(self.kernels)
        }
        return tvm.IRModule(
            {
                plain[gvar.name_hint]: _anonymous(
                    _marked(retarget_calls(f, plain), self.name, "unit")
                )
                for gvar, f in self.kernels.items()
            }
        )


def _are_same(
    here: Mapping[str, TargetFunctions | str], there: Mapping[str, TargetFunctions | str]
) -> bool:
    if here.keys() != there.keys():
        return False
    for target, found in here.items():
        other = there[target]
        if isinstance(found, str) or isinstance(other, str):
            if found != other:
                return False
            continue
        pairs = zip(_in_order(found), _in_order(other), strict=False)
        if len(found) != len(other) or not all(is_same(a, b) for a, b in pairs):
            return False
    return True


def _in_order(kernels: TargetFunctions) -> list[tirx.PrimFunc]:
    return [_anonymous(kernel) for _, kernel in sorted(kernels.items())]


def _renamed(
    targets: Mapping[str, TargetFunctions | str], names: Mapping[str, str]
) -> dict[str, TargetFunctions | str]:
    return {
        target: found
        if isinstance(found, str)
        else {names[name]: function for name, function in found.items()}
        for target, found in targets.items()
    }


def _free(name: str, label: str, taken: Collection[str]) -> str:
    free, count = name, 0
    while free in taken:
        count += 1
        free = f"{label}-{name}" if count == 1 else f"{label}_{count}-{name}"
    return free


def _place(unit: str, gvar: GlobalVar, function: tvm.ir.BaseFunc) -> tuple[bool, str]:
    is_unit = gvar.name_hint == unit or _unit_of(function) == unit
    return not is_unit, gvar.name_hint


def _unit_of(function: tvm.ir.BaseFunc) -> Any:
    return function.attrs.get(UNIT_ATTR, None) if function.attrs else None


def _typed(name: str, like: GlobalVar) -> GlobalVar:
    gvar = GlobalVar(name)
    relax.expr._update_type(gvar, like.ty)
    return gvar


def _marked(function: Any, old: str, new: str) -> Any:
    """Return a function that belongs to unit ``new`` if its attribute names unit ``old``."""
    return function.with_attr(UNIT_ATTR, new) if _unit_of(function) == old else function


def _anonymous(function: Any) -> Any:
    has_name = function.attrs and "global_symbol" in function.attrs
    return function.without_attr("global_symbol") if has_name else function


def _identity(case: SuiteCase) -> object:
    return (
        case.function,
        case.may_write,
        tuple(item.tensor for item in case.inputs),
        tuple(item.tensor for item in case.outputs),
    )
