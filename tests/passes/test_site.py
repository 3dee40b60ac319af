"""Site ids, and the span that carries them."""

from __future__ import annotations

import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tvm import relax
from tvm.ir import SourceName, Span

from relax_tapml.passes.site import Site, site_of, with_site

SITE = Site(function="main", ordinal=12, unit="fused_matmul_add2")


def a_call() -> relax.Call:
    x = relax.Var("x", relax.TensorType((2, 3), "float32"))
    builder = relax.BlockBuilder()
    return builder.normalize(relax.op.permute_dims(x))


def test_id_is_readable():
    """A short ordinal is padded, so ids sort as the program runs; a long one is whole."""
    assert SITE.id == "main/012/fused_matmul_add2"
    assert Site(function="f", ordinal=12345, unit="u").id == "f/12345/u"


@given(
    function=st.text(min_size=1).filter(lambda text: "/" not in text and "\n" not in text),
    ordinal=st.integers(0, 10**6),
    unit=st.text(min_size=1).filter(lambda text: "\n" not in text),
)
def test_id_can_be_read_back(function, ordinal, unit):
    """Whatever the names are, units with slashes included."""
    site = Site(function=function, ordinal=ordinal, unit=unit)
    assert Site.parse(site.id) == site


@pytest.mark.parametrize(
    "text", ["", "main", "main/012", "main/x/matmul", "/012/matmul", "main/1/"]
)
def test_other_text_is_no_id(text):
    """A text that is no id is refused with an example of one."""
    with pytest.raises(ValueError, match="is not a site id such as 'main/012/fused_matmul_add2'"):
        Site.parse(text)


def test_a_call_keeps_everything_but_its_span():
    """Structural equality does not see the name; the type and attributes stay."""
    call = a_call()
    named = with_site(call, SITE)
    assert site_of(named) == SITE
    assert site_of(call) is None
    tvm.ir.assert_structural_equal(named, call)
    assert named.ty == call.ty
    assert named.attrs.same_as(call.attrs)


def test_a_name_survives_json():
    """Sites are still known in a module that was saved."""
    assert site_of(tvm.ir.load_json(tvm.ir.save_json(with_site(a_call(), SITE)))) == SITE


def test_a_span_of_someone_else_is_no_site():
    """Frontends give spans too."""
    call = a_call()
    span = Span(SourceName("model.py"), 1, 1, 1, 2)
    assert site_of(relax.Call(call.op, call.args, attrs=call.attrs, span=span)) is None
