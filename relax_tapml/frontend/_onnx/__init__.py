"""ONNX models: read, given sizes, folded and imported node by node.

``frontend.onnx_model`` calls these in order: ``model_file`` reads and checks, ``interface`` finds
the inputs and the sizes of their dimensions, ``definitions`` and ``fold`` rewrite the graph to what
can be imported, ``importer`` makes Relax of it, and ``runtime`` runs the model in onnxruntime.
"""

__all__ = [
    "constants",
    "contents",
    "converters",
    "convolution",
    "definitions",
    "evaluate",
    "exact_products",
    "fold",
    "folded_values",
    "graph",
    "importer",
    "interface",
    "model_file",
    "node_script",
    "nodes",
    "onnx_call",
    "quantized",
    "recurrent",
    "resize",
    "runtime",
]
