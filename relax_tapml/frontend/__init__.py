"""Every source of models, as one type.

The name of a model flows in (a file, a folder, a Python callable, a built-in example, a
configuration of MLC-LLM); a checked ``model.Model`` flows out: Relax, parameters by name, samples
and the framework's own outputs. Others call ``load.load_model`` or a ``from_...`` function; the
room ``hf`` reads checkpoint folders; ``model`` holds plain dataclasses, which every room may
import.
"""

__all__ = [
    "drives",
    "hf",
    "inputs",
    "load",
    "mlc_compat",
    "mlc_drive",
    "mlc_model",
    "mlc_pipeline",
    "model",
    "nn_module",
    "onnx_model",
    "paged_drive",
    "paged_engine",
    "saved",
    "scenarios",
    "signature",
    "tflite_model",
    "torch_export",
]
