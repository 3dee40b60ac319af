"""Tolerances derived from the kernel itself: a float64 evaluation with an error bound beside it."""
