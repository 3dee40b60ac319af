"""How far a result is from its oracle, in numbers.

Each metric is one file; ``registry.METRICS`` lists them. They are computed for every comparison,
from its blocks, and stand in the results and in what is printed of them.
"""

__all__ = ["block", "metric", "norm", "registry", "ulp"]
