"""Masks that the model decides: one that is all true hides how a kernel reads it."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from relax_tapml import Model, Sample
from relax_tapml.bringup.main_job import bring_up


def model():
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 4), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            mask = relax.const(np.ones((4, 4), bool))
            zeros = relax.const(np.zeros((4, 4), "float32"))
            output = builder.emit_output(builder.emit(relax.op.where(mask, x, zeros)))
        builder.emit_func_output(output)
    array = np.random.default_rng(0).standard_normal((4, 4)).astype("float32")
    return Model(
        name="masked",
        module=builder.get(),
        entry="main",
        params={},
        samples=(Sample(name="s", arrays=(array,)),),
    )


def transposed(is_wrong):
    """Read the mask by columns, or leave the kernel as it is."""

    @tvm.transform.module_pass(opt_level=0, name="Transposed")
    def change(module, _):
        out = module.clone()
        for gvar, function in module.functions_items():
            if isinstance(function, tvm.tirx.PrimFunc) and is_wrong:
                text = function.script()
                changed = text.replace(
                    'Cast("int64", A[v_ax0, v_ax1])', 'Cast("int64", A[v_ax1, v_ax0])'
                )
                assert changed != text
                out.update_func(gvar, tvm.script.from_source(changed))
        return out

    return change


def test_how_a_constant_mask_is_read_shows(tmp_path):
    for is_wrong in (True, False):
        result = bring_up(
            model(),
            out=tmp_path / str(is_wrong),
            session="inline",
            repair=False,
            device_pipeline=transposed(is_wrong),
        )
        assert bool(result.culprits) is is_wrong, result.document["units"]
