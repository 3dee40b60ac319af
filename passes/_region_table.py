"""The region functions of a module, with one function for all equal ones."""

from __future__ import annotations

from collections.abc import Collection

import tvm_ffi
from tvm import relax

from ._device_protocol import REGION_ATTR


class RegionTable:
    """Names region functions: ``main_region0`` is the first one that ``main`` needed.

    Weights are arguments, so the repeated layers of a model give structurally equal regions, which
    become one function of the device's program.

    Parameters
    ----------
    taken
        Names that the module has already; a region gets none of them.
    is_shared
        Whether equal regions become one function, whichever functions call them.
    """

    def __init__(self, taken: Collection[str], *, is_shared: bool = True) -> None:
        self._taken = set(taken)
        self._is_shared = is_shared
        self._next: dict[str, int] = {}
        self._alike: dict[int, list[tuple[str, relax.Function]]] = {}
        self.functions: dict[str, relax.Function] = {}

    def add(self, region: relax.Function, owner: str) -> str:
        """Return the name by which to call a region of the function ``owner``."""
        if not self._is_shared:
            return self._keep(region, owner)
        # Constants are compared but not hashed, since few regions differ in their constants alone.
        alike = self._alike.setdefault(
            tvm_ffi.structural_hash(region, skip_tensor_content=True), []
        )
        for name, other in alike:
            if tvm_ffi.structural_equal(region, other):
                return name
        name = self._keep(region, owner)
        alike.append((name, region))
        return name

    def _keep(self, region: relax.Function, owner: str) -> str:
        name = self._free_name(owner)
        region = region.with_attr("global_symbol", name).with_attr(REGION_ATTR, owner)
        self.functions[name] = region
        return name

    def _free_name(self, owner: str) -> str:
        while True:
            index = self._next.get(owner, 0)
            self._next[owner] = index + 1
            name = f"{owner}_region{index}"
            if name not in self._taken:
                self._taken.add(name)
                return name
