"""Attention is also tested where every token counts about the same."""

from __future__ import annotations

import numpy as np
import paged_llm
import pytest
from paged_runs import run

from relax_tapml.suite.open_suite import open_suite

ATTENTION = {
    "batch_decode_paged_kv_cpu",
    "batch_prefill_paged_kv_cpu",
    "batch_prefill_ragged_kv",
    "merge_state_inplace_cpu",
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    out = tmp_path_factory.mktemp("even") / "run"
    run(paged_llm.model(), out, is_probed=True, strategy=None)
    return open_suite(out)


def even(suite, unit):
    return [case for case in suite.manifest.units[unit].cases if "-even" in case.name]


def test_each_recorded_case_of_attention_has_one_and_nothing_else_has(suite):
    units = {unit for unit in suite.manifest.units if even(suite, unit)}
    assert units == ATTENTION
    for unit in units:
        recorded = [c for c in suite.manifest.units[unit].cases if not c.is_probe]
        assert len(even(suite, unit)) == len(recorded)


def test_a_token_more_or_less_is_far_outside_the_tolerance(suite):
    """The logarithm of the sum of all weights is that of the number of tokens."""
    for case in even(suite, "batch_decode_paged_kv_cpu"):
        _, pages, indptr, _, length, *_ = (suite.tensor(item.tensor) for item in case.inputs)
        tokens = int(indptr[1] - indptr[0] - 1) * pages.shape[3] + int(length[0])
        output = case.outputs[1]
        logs = suite.tensor(output.tensor)
        np.testing.assert_allclose(logs, np.log2(tokens), atol=0.02)
        allowed = suite.tensor(output.tolerance.digests[0])
        assert allowed.max() < 0.01 * (np.log2(tokens + 1) - np.log2(tokens))


def test_what_the_runtime_decides_stays(suite):
    """Tables, lengths and positions belong together."""
    for unit in ATTENTION:
        recorded = [c for c in suite.manifest.units[unit].cases if not c.is_probe]
        for case, base in zip(even(suite, unit), recorded, strict=True):
            for item, own in zip(case.inputs, base.inputs, strict=True):
                if suite.tensor(item.tensor).dtype.kind == "i":
                    assert item == own
