"""The error of a kernel that the runtime calls, as a KV cache calls its attention."""

from __future__ import annotations

import tvm_ffi


@tvm_ffi.register_error
class KernelFailed(RuntimeError):  # noqa: N818 - the field's word
    """A kernel raised in a call that the runtime made: what the runtime did is not the cause.

    ``relax_tapml.runtime_callback.make`` gives errors this kind.
    """
