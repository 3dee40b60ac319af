"""Models of checkpoint folders in the layout of Hugging Face.

In comes a folder (``config.json``, safetensors, a tokenizer); out goes a ``Model``. ``checkpoint``
reads the folder, ``task_inputs`` makes inputs for the task of the model, and ``static_cache``
gives decoders a cache of fixed size. ``load_folder`` puts them together.
"""

__all__ = ["checkpoint", "load_folder", "static_cache", "task_inputs"]
