"""All metrics."""

from __future__ import annotations

from relax_tapml.compare.metrics._cosine import Cosine
from relax_tapml.compare.metrics._largest import MaxAbs, MaxRel, MaxUlp
from relax_tapml.compare.metrics._nonfinite import NonFinite
from relax_tapml.compare.metrics._rmse import Rmse
from relax_tapml.compare.metrics._saturation import Saturation
from relax_tapml.compare.metrics._snr_db import SnrDb
from relax_tapml.compare.metrics.metric import Measure, Metric

METRICS: tuple[type[Metric], ...] = (
    MaxAbs,
    MaxRel,
    MaxUlp,
    Rmse,
    Cosine,
    SnrDb,
    NonFinite,
    Saturation,
)


def metrics_for(*, has_floats: bool) -> list[Metric]:
    """Return a metric of each kind that has a value for floats, or for integers and bool."""
    return [metric() for metric in METRICS if has_floats or metric.is_for_integers]


def measures(metrics: list[Metric]) -> dict[str, Measure]:
    """Return the values of all metrics by name; None for those that are not in the list."""
    found = {metric.name: metric.value for metric in metrics}
    return {metric.name: found.get(metric.name) for metric in METRICS}
