"""A unit that runs the kernels of others may be off as far as they may, together."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from broken_pipelines import _map_stores, _store
from paged_runs import run
from tvm import tirx

from relax_tapml._compat import IS_TVM_026
from relax_tapml.carve.sensitivity import noise_levels
from relax_tapml.kernel_flow.kernel_call import kernel_call_of
from relax_tapml.suite.composite_units import units_run
from relax_tapml.suite.open_suite import open_suite

pytestmark = pytest.mark.skipif(IS_TVM_026, reason="caches of TVM 0.26 have no checkpoints")

ATTENTION = "vm.builtin.attention_kv_cache_attention_with_fused_qkv"
KERNELS = ("batch_decode_paged_kv_cpu", "batch_prefill_ragged_kv", "fused_rope")


@pytest.fixture(scope="module")
def clean(clean_paged):
    return clean_paged


def test_attention_is_the_only_one(clean):
    """Other units run kernels of their own."""
    assert list(units_run(open_suite(clean.out))) == [ATTENTION]


def test_kernels_handed_to_the_cache_have_derived_tolerances(clean):
    """And add to the noise of what follows, at the parameters that they write to."""
    suite = open_suite(clean.out)
    levels = noise_levels(suite)
    for name in KERNELS:
        case = suite.manifest.units[name].cases[0]
        call = kernel_call_of(suite.module(name), case.function)
        assert call.is_runtime_callback
        assert levels[name].results == tuple(call.results)
        for output in case.outputs:
            assert output.tolerance.kind == "elements"
            assert "float64 evaluation" in output.tolerance.origin
    # It copies keys and values: that is no noise, however small the numbers in the pages are.
    assert "tir_kv_cache_transpose_append" not in levels


def moved(share):
    """Move what some kernels return by a share of their noise: each on its own is right."""

    @tvm.transform.module_pass(opt_level=0, name="Moves")
    def change(module, _ctx):
        out = module.clone()
        for name in KERNELS:
            gvar = module.get_global_var(name)
            factor = 1 + share[name]
            kernel = _map_stores(
                module[gvar],
                lambda s, f=factor: (
                    _store(s, s.value * tirx.const(f, s.value.ty))
                    if str(s.value.ty.dtype) == "float32" and s.buffer.scope() == "global"
                    else s
                ),
            )
            out.update_func(gvar, kernel)
        return out

    return change


def test_kernels_within_their_tolerances_make_no_unit_fail(clean, paged):
    """Alone, together in the cache, or in the outputs of the model."""
    levels = noise_levels(open_suite(clean.out))
    share = {name: levels[name].level / 8 for name in KERNELS}
    result = run(paged, clean.out, resume=True, device_pipeline=moved(share))
    units = {u["name"]: u for u in result.document["units"]}
    assert {name: units[name]["reason"] for name in result.culprits} == {}
    assert units[ATTENTION]["verdict"] == "pass"
    assert units[ATTENTION]["error"] > 0


def test_the_bound_is_the_noise_and_not_more(clean):
    """A fault of a percent is far outside of it."""
    suite = open_suite(clean.out)
    for case in suite.manifest.units[ATTENTION].cases:
        output = case.outputs[0]
        assert "tolerance of its unit" in output.tolerance.origin
        bound, oracle = suite.tensor(output.tolerance.bound), suite.tensor(output.tensor)
        assert np.median(bound) < 1e-3 * np.sqrt(np.mean(oracle**2))


def test_in_a_browser_the_rotary_embedding_of_attention_may_be_less_accurate(clean):
    """Its sine may be 2**-11 off there, and so may attention: more than it may elsewhere."""
    suite = open_suite(clean.out)
    fine, wide = noise_levels(suite), noise_levels(suite.low_precision())
    assert wide["fused_rope"].level > 100 * fine["fused_rope"].level
    for case in suite.manifest.units[ATTENTION].cases:
        tolerance = case.outputs[0].tolerance
        bound, wide = (suite.tensor(name) for name in (tolerance.bound, tolerance.coarse))
        assert np.median(wide) > 5 * np.median(bound)
