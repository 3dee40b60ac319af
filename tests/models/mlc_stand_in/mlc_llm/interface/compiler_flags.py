class OptimizationFlags:
    pass


class ModelConfigOverride:
    pass
