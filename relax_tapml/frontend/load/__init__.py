"""One function for all sources of models.

``load_model.load_model`` takes the first of ``registry.FRONTENDS`` that matches a name. Importing a
frontend is cheap: it imports what it needs when it loads a model.
"""

__all__ = ["frontend", "load_model", "registry"]
