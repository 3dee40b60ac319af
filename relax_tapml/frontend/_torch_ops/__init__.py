"""Converters of PyTorch's operators that TVM's importer lacks or gets wrong.

Each module corrects one kind of operator, and ``importer`` puts them together. The docstring of a
converter says what TVM's own does wrong: delete it here when TVM's passes the tests.
"""

__all__ = [
    "bags",
    "complex_numbers",
    "elementwise",
    "emitter",
    "fourier",
    "images",
    "importer",
    "indexing",
    "products",
    "reductions",
    "scatters",
    "shapes",
]
