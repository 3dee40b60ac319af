from paged_llm import Int4Linear
from tvm.relax.frontend import nn

QUANTIZATION = {"q0f32": nn.Linear, "q4f16_1": Int4Linear}
