"""Relax passes for operator-wise carving and migration, and the native functions they call.

An IRModule flows into each pass and an IRModule flows out; no pass reads files, prints, or edits
its input. ``annotate_sites`` names operator calls, ``insert_capture`` records them, and
``assign_sides`` with ``outline_regions`` and ``split_module`` moves some of them to a device.
``native.load`` registers the functions ``relax_tapml.*`` that rewritten modules call.
"""

__all__ = [
    "annotate_sites",
    "assign_sides",
    "bounded_outputs",
    "cache_call",
    "cache_creation",
    "call_loose_kernels",
    "correct_tree_kernels",
    "device_calls",
    "insert_capture",
    "keep_inplace_apart",
    "keep_origins",
    "kernel_failed",
    "lift_derived_weights",
    "module_pass",
    "native",
    "notes",
    "operator_call",
    "origin",
    "outline_dispatched_ops",
    "outline_regions",
    "outline_runtime_callbacks",
    "poison_results",
    "replace_choices",
    "site",
    "split_module",
    "submodule",
    "value_leaves",
    "weights",
]
