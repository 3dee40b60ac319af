"""The kernels for token trees get to the runtime as it reads them, and read inside their tensor."""

from __future__ import annotations

import paged_llm
import pytest
import tvm
import tvm_ffi
from tvm import tirx

from relax_tapml._compat import TensorLoad, buffer_of
from relax_tapml.passes.cache_creation import CacheKernel, cache_creations, pages_shape
from relax_tapml.passes.correct_tree_kernels import CorrectTreeKernels
from relax_tapml.passes.notes import notes_of


@pytest.fixture(scope="module")
def model():
    return paged_llm.model()


@pytest.fixture(scope="module")
def after(model):
    return CorrectTreeKernels()(model.module)


def tree_kernels(module):
    (made,) = cache_creations(module)
    return [
        made.kernels[role][0].name_hint
        for role in (CacheKernel.TREE_PAGED, CacheKernel.TREE_RAGGED)
    ]


def test_the_first_one_is_that_which_takes_pages(model, after):
    first, second = tree_kernels(after)
    assert tree_kernels(model.module) == [second, first]  # As TVM has it; the input is unchanged.
    assert pages_shape(after[first])
    assert not pages_shape(after[second])
    (note,) = notes_of(after)
    assert "token trees on CPUs" in note.text
    assert note.kernels == tuple(sorted([first, second]))
    assert not notes_of(model.module)


def test_the_order_of_a_tree_is_read_at_no_negative_place(after):
    kernel, places = after[tree_kernels(after)[0]], []

    def note(load):
        if buffer_of(load).name == "tree_order":
            places.append(load.indices[0])

    tvm_ffi.structural_walk(kernel, (TensorLoad, note))
    assert places
    assert all(isinstance(place, tirx.Max) for place in places)


def test_nothing_else_is_changed(model, after):
    """What is right already, and what GPUs have, stays as it is."""
    assert CorrectTreeKernels()(after).same_as(after)
    on_gpu = model.for_target(tvm.target.Target("opencl"))
    assert CorrectTreeKernels()(on_gpu).same_as(on_gpu)
    changed = {*tree_kernels(after), "create_cache"}
    for gvar, function in model.module.functions.items():
        if gvar.name_hint not in changed:
            assert after[gvar].same_as(function)
