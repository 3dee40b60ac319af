from types import SimpleNamespace

from paged_llm import Int4Linear
from tvm.relax.frontend import nn

QUANTIZATION = {
    "q0f32": SimpleNamespace(name="q0f32", kind="no-quant", linear=nn.Linear),
    "q4f16_1": SimpleNamespace(name="q4f16_1", kind="group-quant", linear=Int4Linear),
}
