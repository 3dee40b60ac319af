"""How near right sums come to their tolerance: many orders, lengths, dtypes and kinds of terms.

For each dtype and length, rows of terms of many kinds are added in some forty orders, every
partial sum rounded to the dtype, and compared with the tolerance that is derived for the sum.
``use`` is the largest share of the tolerance that any order of any row needs: above 1 a right
kernel would be accused. ``share`` is the tolerance of sums of normal terms, as a share of their
root mean square.

Exits with 1 if a right sum is outside of its tolerance.
"""

from __future__ import annotations

import argparse
import sys

import ml_dtypes
import numpy as np
import tvm
from rich.console import Console
from rich.table import Table
from tvm import relax

from mutation.sum_orders import sums, terms_of_kinds
from relax_tapml.arrays import as_float64
from relax_tapml.derive.derivation import Derivation

LENGTHS = {
    "float16": (16, 64, 256, 1024, 4096, 11008),
    "bfloat16": (16, 64, 256, 1024, 4096, 11008),
    "float32": (64, 1024, 12544, 50000),
}


def derivation_of_sum(rows: int, length: int, dtype: str) -> Derivation:
    """Return the derivation of a sum along rows, as TVM lowers it, accumulated in the dtype."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((rows, length), dtype))
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit(relax.op.sum(x, axis=1)))
    lowered = relax.transform.LegalizeOps()(builder.get())
    (kernel,) = (f for f in lowered.functions.values() if isinstance(f, tvm.tirx.PrimFunc))
    return Derivation(kernel, [1])


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=16, help="of each kind of terms")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table = Table("dtype", "terms", "orders", "sums", "use", "median use", "nearest", "share")
    worst, count = 0.0, 0
    for dtype, lengths in LENGTHS.items():
        kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
        for length in lengths:
            derivation = derivation_of_sum(options.rows, length, dtype)
            largest, nearest, uses, orders, share, tried = 0.0, "", [], 0, 0.0, 0
            for name, wide in terms_of_kinds(options.rows, length, options.seed):
                terms = wide.astype(kind)
                exact = as_float64(terms).sum(axis=1)
                like = exact.astype(kind)
                found = derivation.evaluated({0: terms}, {}, [like])
                assert found is not None
                oracle, allowed = as_float64(found[0][0]), found[1][0].allowed(found[0][0])
                if name == "normal":
                    share = float(np.sqrt(np.mean(allowed**2) / np.mean(oracle**2)))
                orders = 0
                for order, result in sums(terms):
                    orders += 1
                    tried += len(result)
                    with np.errstate(invalid="ignore"):
                        use = np.abs(as_float64(result) - oracle) / allowed
                    use = use[~np.isnan(allowed) & np.isfinite(oracle)]
                    uses.append(float(np.median(use)) if use.size else 0.0)
                    if use.size and use.max() > largest:
                        largest, nearest = float(use.max()), f"{name}, {order}"
            worst, count = max(worst, largest), count + tried
            table.add_row(
                *(dtype, str(length), str(orders), str(tried), f"{largest:.2f}"),
                *(f"{np.median(uses):.2f}", nearest, f"{share:.2g}"),
            )
    Console().print(table)
    print(f"{count} sums, the one that needs most takes {worst:.2f} of its tolerance")
    return int(worst > 1)


if __name__ == "__main__":
    sys.exit(main())
