"""Run work items one after the other, in either order, to find races."""

from __future__ import annotations

from relax_tapml.files.cache_folder import cache_folder


def one_by_one(order: str) -> dict[str, str]:
    """Return the environment of a process whose kernels run so; ``work_items.h`` says why.

    Parameters
    ----------
    order
        ``in-order`` or ``reversed``.
    """
    return {
        "RELAX_TAPML_OPENCL_WORK_ITEMS": order,
        # pocl's device with one thread, so that groups also run one after the other.
        "POCL_DEVICES": "basic",
        # By default pocl lets LLVM vectorise over work items, so that several run in lock step.
        "POCL_WORK_GROUP_METHOD": "loops",
        # pocl finds compiled kernels by their source, whatever the method was.
        "POCL_CACHE_DIR": str(cache_folder() / "pocl-loops"),
    }
