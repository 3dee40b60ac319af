"""A decoder whose cache has other kernels on its target than on its source."""

from __future__ import annotations

import dataclasses

import pytest
import tvm
from broken_pipelines import scale
from paged_runs import run
from tiny_runs import unit_of
from tvm import relax, tirx
from tvm.ir import GlobalVar

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import LoweringError
from relax_tapml.migrate import cache_step
from relax_tapml.passes.submodule import retarget_calls
from relax_tapml.suite.open_suite import open_suite

THERE = '{"kind": "llvm", "num-cores": 2}'
CREATE = "vm.builtin.paged_attention_kv_cache_create"
DECODE = "batch_decode_paged_kv_cpu"


def there(model, change=lambda _name, kernel: kernel):
    """Return a model that has its kernels under other names on its target, some changed."""

    def for_target(target):
        module = model.for_target(target)
        kernels = {
            g.name_hint: g for g, f in module.functions.items() if isinstance(f, tirx.PrimFunc)
        }
        names = {}
        for name, gvar in kernels.items():
            names[name] = GlobalVar(f"{name}_there")
            relax.expr._update_type(names[name], gvar.ty)
        functions = {}
        for gvar, function in module.functions.items():
            name = gvar.name_hint
            if name in kernels:
                function = change(name, function)
            functions[names.get(name, gvar)] = retarget_calls(function, names)
        return tvm.IRModule(functions, attrs=module.attrs)

    return dataclasses.replace(model, for_target=for_target)


@pytest.fixture(scope="module")
def model(paged):
    return paged


def run_there(model, clean, **options):
    return run(model, clean.out, resume=True, target=THERE, **options)


def test_each_side_has_its_own_kernels_and_the_cache_moves_last(model, clean_paged):
    """To a device process."""
    result = run_there(there(model), clean_paged, session="process")
    assert (result.verdict, result.cache.verdict) == ("pass", "pass")
    assert result.steps[-1].purpose == "cache"
    # Between its steps nothing but inputs and outputs crosses.
    last = result.steps[-1]
    assert last.bytes_moved < max(step.bytes_moved for step in result.steps[:-1])
    maker = unit_of(result, CREATE)
    assert (maker["verdict"], maker["on_device"]) == ("pass", True)
    assert not any(CREATE in item.site for item in result.skipped)
    assert not any("fused_qkv" in item.site for item in result.skipped)


def test_a_wrong_kernel_that_only_the_target_has_is_named(model, clean_paged):
    """By the source's name, and replays of the suite find it too."""

    def broken(name, kernel):
        return scale(kernel) if name == DECODE else kernel

    result = run_there(there(model, broken), clean_paged)
    assert (result.verdict, result.culprits) == ("mismatch", [DECODE])
    assert result.cache.verdict == "skipped"
    assert f"{DECODE} is wrong" in result.cache.reason
    assert unit_of(result, DECODE)["target_kernel"] == f"{DECODE}_there"
    suite = open_suite(result.out / "tests")
    assert len(suite.manifest.units[DECODE].targets) == 1


def test_a_kernel_without_a_counterpart_is_skipped_with_both_interfaces(model, clean_paged):
    def wider(name, kernel):
        if name != DECODE:
            return kernel
        params = [*kernel.params, tirx.Var("more", "int32")]
        return tirx.PrimFunc(params, kernel.body, attrs=kernel.attrs)

    result = run_there(there(model, wider), clean_paged)
    unit = unit_of(result, DECODE)
    assert (result.verdict, unit["verdict"]) == ("pass", "skipped")
    assert "float32[s1, 2, 2, 16, 16]" in unit["reason"]
    assert unit["reason"].endswith("int32)")
    assert f"{DECODE} has no kernel for the target" in result.cache.reason


def test_what_is_wrong_only_with_the_cache_on_the_device_blames_what_makes_it(
    model, clean_paged, monkeypatch
):
    right = cache_step.shipped

    def wrong(side):
        module = right(side)
        module.update_func(module.get_global_var(DECODE), scale(module[DECODE]))
        return module

    monkeypatch.setattr(cache_step, "shipped", wrong)
    result = run_there(model, clean_paged)
    assert (result.verdict, result.culprits) == (Verdict.MISMATCH, [CREATE])
    assert "with it on the device the model fails" in unit_of(result, CREATE)["reason"]


def test_a_model_that_cannot_be_made_for_the_target_ends_with_the_reason(model, clean_paged):
    def fails(target):
        raise RuntimeError(f"no attention for {target.kind.name}")

    with pytest.raises(LoweringError, match=r"paged llm for llvm .*no attention for llvm"):
        run_there(dataclasses.replace(model, for_target=fails), clean_paged)
