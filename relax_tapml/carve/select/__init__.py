"""Choose the recorded calls that become cases of a unit.

``choose_cases`` takes a ``CaptureStore`` and sites and returns a few ``Case`` for each unit, with
the reason for each. ``call_work`` counts what a call does, ``call_facts`` and
``tensor_statistics`` describe its tensors; probes use these, too.
"""

__all__ = ["call_facts", "call_work", "choose_cases", "tensor_statistics"]
