"""Record every operator call of a real run, and read the records back.

In come the events of the native queue that ``InsertCapture``'s calls fill; out goes a folder, the
capture store: tensors by content in safetensors segments, calls and samples in an SQLite index.
Others record with ``recorder.Recorder`` and read with ``store.CaptureStore``, whose records are
the dataclasses of ``values``; ``cache_state`` reads what they have of a KV cache. ``index`` opens
and checks the database, ``host_tensor`` is a tensor in the store's terms. TVM is imported by
``recorder`` and ``store`` only.
"""

__all__ = ["cache_state", "host_tensor", "index", "recorder", "store", "values"]
