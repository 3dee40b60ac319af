"""How far a result is from its oracle, in numbers.

Each metric is one file; ``registry.METRICS`` lists them. They are computed for every comparison,
from its blocks, and are part of the results and of what is printed.
"""

__all__ = ["block", "metric", "norm", "registry", "ulp"]
