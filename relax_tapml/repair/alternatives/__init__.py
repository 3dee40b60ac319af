"""Alternative kernels, a file each; ``registry.ALTERNATIVES`` has them in the order tried."""

__all__ = [
    "accurate_options",
    "as_lowered",
    "compensated_sums",
    "computed_constants",
    "dlight_rules",
    "float32_sums",
    "host_algorithm",
    "kept_guards",
    "no_shared_memory",
    "no_vectors",
    "one_thread_each",
    "registry",
    "smaller_blocks",
    "unfused",
    "unscheduled",
    "word_integers",
    "written_otherwise",
]
