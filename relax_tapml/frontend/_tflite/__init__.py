"""TFLite models: read, given sizes and imported operator by operator.

``frontend.tflite_model`` calls these in order: ``model_file`` reads a file and lets the TFLite
interpreter verify it, ``interface`` finds inputs and sizes, ``runtime`` runs the model in the
interpreter, ``operators`` refuses what cannot be imported, and ``importer`` makes Relax of
the others. If the import is wrong, ``graph`` imports each operator by itself.
"""

__all__ = [
    "converters",
    "graph",
    "importer",
    "interface",
    "known_values",
    "model_file",
    "operators",
    "quantized",
    "runtime",
    "view",
]
