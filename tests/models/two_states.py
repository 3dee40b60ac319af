"""Two recurrent layers side by side, whose states two functions of the runtime make."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import recurrent
import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import GlobalVar

from relax_tapml.frontend.model import Model
from relax_tapml.passes.submodule import retarget_calls

CREATE = "vm.builtin.rnn_state_create"
CREATE_OTHER = "two_states.create"
OTHER_SET = "other_set"


@tvm.register_global_func(CREATE_OTHER)
def create_other(*arguments: Any) -> Any:
    """Make a state, as the runtime's own function does."""
    return tvm.get_global_func(CREATE)(*arguments)


def _module() -> tvm.IRModule:
    module = recurrent.Recurrent.clone()
    names = {}
    for name, new in (("state_get", "other_get"), ("state_set", OTHER_SET)):
        old = module.get_global_var(name)
        names[name] = GlobalVar(new)
        relax.expr._update_type(names[name], old.ty)
        module[names[name]] = module[old]

    def other(function: relax.ExternFunc) -> relax.ExternFunc:
        is_maker = function.global_symbol == CREATE
        return relax.ExternFunc(CREATE_OTHER) if is_maker else function

    create = tvm_ffi.structural_map(module["create_state"], (relax.ExternFunc, other))
    create = relax.utils.copy_with_new_vars(retarget_calls(create, names)).with_attr(
        "global_symbol", "create_other"
    )
    module[GlobalVar("create_other")] = create
    return module


def drive(functions, sample):
    """Run both, a sequence each, step by step."""
    states = [functions[name]()[0] for name in ("create_state", "create_other")]
    for state in states:
        for sequence in (0, 1):
            functions.runtime("vm.builtin.kv_state_add_sequence")(state, sequence)
    outputs = []
    for x in sample.arrays[0]:
        for state in states:
            functions.runtime("vm.builtin.kv_state_begin_forward")(state, (0, 1), (1, 1))
            outputs.append(functions["step"](x, state)[0])
            functions.runtime("vm.builtin.kv_state_end_forward")(state)
    return [np.stack(outputs)]


def model() -> Model:
    """Return it with the weights and inputs of ``recurrent``."""
    return dataclasses.replace(recurrent.model(), name="two states", module=_module(), drive=drive)
