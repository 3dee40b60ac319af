"""Cases that were not recorded: one recorded call with other extents of its symbolic dimensions.

``ShapeCases.plan`` lists the dimensions that the calls of a unit had and chooses other extents that
the model allows; ``ShapeCases.probes`` makes cases of them, with the float64 evaluation as oracle.
``boundary_calls`` does the same for a suite whose model is not there: from the kernel alone.
"""

__all__ = ["boundary_shapes", "shape_cases"]
