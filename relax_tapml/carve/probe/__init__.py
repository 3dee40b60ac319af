"""Cases that were not recorded: one recorded call with other inputs of the same shapes.

``unit_probes.probes`` takes a unit's tolerances and one of its cases, and returns probes with their
oracles, and why others could not be made; ``even_probe`` makes one of attention. Each idea is a
module of its own: floats, whole numbers, constants, rows, exact sums. A probe is made only if the
kernel provably stays inside its tensors. ``DrawnProbes`` makes some from a drawn seed, which no
file shows.
"""

__all__ = ["drawn_probe", "even_probe", "unit_probes"]
