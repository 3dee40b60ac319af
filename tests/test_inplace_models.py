"""Kernels that write to their arguments, from lowering to the bundle."""

from __future__ import annotations

import numpy as np
import pytest
from broken_pipelines import breaks, scale
from inplace_models import chain, square, two
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812

import relax_tapml
from relax_tapml import bring_up
from relax_tapml.frontend.model import Model, Sample


@pytest.mark.parametrize("make", [square, chain, two], ids=["square", "chain", "two"])
def test_right_kernels_pass_and_the_bundle_runs(make, tmp_path):
    """Also where a value is overwritten that another operator had read before."""
    model = make()
    result = bring_up(model, out=tmp_path / "run", session="inline")
    assert (result.verdict, result.culprits) == ("pass", [])
    assert all(unit["on_device"] for unit in result.document["units"])
    hybrid = relax_tapml.load(tmp_path / "run" / "bundle")
    (sample,) = model.samples
    (output,) = hybrid["main"](*sample.arrays)
    np.testing.assert_allclose(output, model.reference(sample)[0], rtol=1e-4)


def test_a_wrong_one_is_named(tmp_path):
    """It and nobody else, although others read what it writes."""
    wrong = breaks("square", scale)
    result = bring_up(
        square(), out=tmp_path / "run", session="inline", repair=False, device_pipeline=wrong
    )
    assert (result.verdict, result.culprits) == ("mismatch", ["square"])


@I.ir_module(check_well_formed=False)  # its shape is a value
class Flattened:
    """The shape is arithmetic on tensors."""

    @R.function
    def main(x: R.Tensor(("n", 4), "float32")):
        with R.dataflow():
            shape = R.shape_of(x)
            extents = R.flip(R.shape_to_tensor(shape), axis=0)
            turned = R.tensor_to_shape(extents)
            y = R.reshape(R.exp(x), turned)
            R.output(y)
        return y


def test_shapes_that_are_tensors_pass(tmp_path):
    """What only the runtime knows stays on the host; the note is in the result."""
    x = np.random.default_rng(0).uniform(-1, 1, (3, 4)).astype("float32")
    model = Model(
        name="flattened",
        module=Flattened,
        params={},
        samples=(Sample(name="a", arrays=(x,)), Sample(name="b", arrays=(x[:2],))),
        reference=lambda s: [np.exp(s.arrays[0]).reshape(4, -1)],
    )
    result = bring_up(model, out=tmp_path / "run", session="inline")
    assert (result.verdict, result.culprits) == ("pass", [])
    (note,) = result.document["lowering_notes"]
    assert note.startswith("pass FoldConstant failed on function main")
    on_device = {unit["name"] for unit in result.document["units"] if unit["on_device"]}
    assert "tir_exp" in on_device
