"""TVM's runtime for OpenCL devices, which TVM's wheel lacks; it can generate their kernels.

Out comes a shared library that adds a device API and a loader of kernels to TVM: ``runtime``
compiles it once from the C++ files here, and loads it. ``devices`` lists what a machine has.

The C++ files: ``cl`` is OpenCL itself, ``devices``, ``queue`` and ``memory`` what a process has of
it, ``device_api`` TVM's interface to these; ``payload`` reads what TVM saves, ``module`` and
``kernel`` run it, ``work_items`` orders work items.
"""

__all__ = ["devices", "runtime", "work_items"]
