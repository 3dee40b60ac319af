"""Cases that were not recorded: one recorded call with other extents of its symbolic dimensions.

``ShapeCases.plan`` lists the dimensions that the calls of a unit had and chooses other extents that
the model allows; ``ShapeCases.probes`` makes cases of them, with the float64 evaluation as oracle.
"""

__all__ = ["shape_cases"]
