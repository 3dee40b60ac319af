"""Record the operator calls of real runs, and read them back."""

from relax_tapml.capture.recorder import Recorder
from relax_tapml.capture.store import CaptureStore, StoreStats
from relax_tapml.capture.values import (
    CallRecord,
    OpaqueValue,
    ParameterValue,
    SiteRecord,
    TensorValue,
    Value,
)

__all__ = [
    "CallRecord",
    "CaptureStore",
    "OpaqueValue",
    "ParameterValue",
    "Recorder",
    "SiteRecord",
    "StoreStats",
    "TensorValue",
    "Value",
]
