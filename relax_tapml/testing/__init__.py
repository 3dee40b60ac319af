"""Carved suites under pytest.

Every pytest run of the environment imports this package, so it must not load TVM.
"""

__all__ = [
    "carved",
    "carved_test",
    "exclusive",
    "plugin",
]
