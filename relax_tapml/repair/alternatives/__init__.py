"""Alternative kernels, a file each; ``registry.alternatives`` lists them in the order tried."""

__all__ = [
    "accurate_options",
    "as_lowered",
    "dlight_rules",
    "kept_guards",
    "one_thread_each",
    "registry",
    "unscheduled",
    "written_otherwise",
]
