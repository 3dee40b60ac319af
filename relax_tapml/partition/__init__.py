"""One module as two programs: what the host runs and what the device runs.

A model's IRModule flows in; ``lower`` names its units and sites, ``kernel_library`` builds their
kernels, and ``program.partition`` compiles the bytecode of both sides for one ``Boundary``.
``hybrid`` runs the two programs together, ``whole_module`` runs a module on the device alone, and
``bundle`` writes and loads both sides as a folder. No result is compared here.
"""

__all__ = [
    "boundary",
    "built_functions",
    "bundle",
    "bytecode",
    "derived_weights",
    "device_side",
    "graph_passes",
    "hybrid",
    "kernel_interface",
    "kernel_library",
    "lower",
    "lower_for_target",
    "pipeline",
    "program",
    "shipped_module",
    "site_table",
    "split_functions",
    "target_kernels",
    "whole_module",
]
