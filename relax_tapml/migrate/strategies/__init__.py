"""Which boundary to try next: pure searches, without devices, files or clocks.

Each strategy is one file; ``registry.STRATEGIES`` lists them. ``search.Search`` runs one: it
proposes a boundary, receives the outcome, and in the end has the parts that belong on the device
and a finding for each that does not.
"""

__all__ = ["registry", "search", "strategy"]
