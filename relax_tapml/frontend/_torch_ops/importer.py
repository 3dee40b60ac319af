"""TVM's importer of exported PyTorch programs, with corrected converters."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node
from tvm import relax

from relax_tapml.frontend._torch_ops.bags import Bags
from relax_tapml.frontend._torch_ops.fourier import Fourier
from relax_tapml.frontend._torch_ops.images import Images
from relax_tapml.frontend._torch_ops.products import Products
from relax_tapml.frontend._torch_ops.reductions import Reductions
from relax_tapml.frontend._torch_ops.scatters import Scatters
from relax_tapml.frontend._torch_ops.shapes import Shapes


class CorrectedImporter(Fourier, Reductions, Products, Images, Scatters, Shapes, Bags):
    """Converts every node to the dtype and shape that PyTorch recorded for it, or raises."""

    def _getitem(self, node: Node) -> Any:
        """Refuse a result that a converter does not have; TVM takes the first one instead."""
        of, place = node.args[:2]
        if isinstance(of, Node) and isinstance(place, int) and place:
            values = self.env.get(of)
            is_one = not isinstance(of.meta.get("val"), torch.Tensor) and _is_one_tensor(values)
            if is_one or (isinstance(values, list) and place >= len(values)):
                raise NotImplementedError(f"the converter of {of.target} has no result {place}")
        return super()._getitem(node)


def _is_one_tensor(value: Any) -> bool:
    return isinstance(value, relax.Expr) and isinstance(value.ty, relax.TensorType)
