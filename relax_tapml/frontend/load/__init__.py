"""One name for every source of models.

``load_model.load_model`` asks each of ``registry.FRONTENDS`` whether a name is its own. Importing a
frontend is cheap: what it needs is imported when it loads a model.
"""

__all__ = ["frontend", "load_model", "registry"]
