"""The sites of a lowered module, with every name by which a boundary may choose them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import tvm
from tvm import relax

from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.operator_call import operator_functions
from relax_tapml.passes.origin import Origin
from relax_tapml.passes.site import Site, origins_of, site_of
from relax_tapml.passes.value_leaves import bindings_in
from relax_tapml.passes.weights import weight_params

# The first number in a weight's name: encoder_layer_0_attention_weight, model.layers.11.weight.
_LAYER = re.compile(r".*?[._]\d+(?=[._]|$)")
_IMPORTED = re.compile(r"^p_")  # What torch.export writes before the name of a parameter.


@dataclass(frozen=True, kw_only=True)
class SiteEntry:
    """One site.

    Parameters
    ----------
    site
        Its id, function and unit.
    kind
        The operator: the unit's name without the numbers that tell units of one kind apart,
        ``fused_matmul_add`` for ``fused_matmul4_add2``.
    layer
        The repeated part of the model it belongs to, ``encoder_layer_3``; empty outside of all.
    origins
        Where in the model it comes from: as the frontend recorded it, or else the modules of the
        weights that it reads; empty if there is neither.
    """

    site: Site
    kind: str
    layer: str
    origins: tuple[Origin, ...] = ()


def site_table(lowered: tvm.IRModule) -> tuple[SiteEntry, ...]:
    """Return every site of a lowered module, function by function in program order.

    A site belongs to the layer of the weights that it reads; if it reads none, to the layer of the
    site before it. The layer of a weight is its name up to the first number.
    """
    weights = {
        gvar.name_hint: _weights_read(function) for gvar, function in operator_functions(lowered)
    }
    entries = []
    layer = function = ""
    for site, call in annotated_calls(lowered):
        layer, function = (layer if site.function == function else ""), site.function
        read = weights[site.function].get(site.id, [])
        if read:
            layer = layer_of(read[-1])
        origins = origins_of(call) or [Origin(module=_module_of(name)) for name in read]
        entries.append(
            SiteEntry(site=site, kind=kind_of(site.unit), layer=layer, origins=tuple(origins))
        )
    return tuple(entries)


def kind_of(unit: str) -> str:
    """Return a unit's name without the numbers that tell units of one kind apart."""
    return "_".join(part.rstrip("0123456789") or part for part in unit.split("_"))


def layer_of(weight: str) -> str:
    """Return the layer in a weight's name, empty if it has none."""
    match = _LAYER.match(_IMPORTED.sub("", weight))
    return match.group() if match else ""


def _module_of(weight: str) -> str:
    """Return the module that has a weight, ``model.layers.0.mlp.gate_up_proj``."""
    return weight.rpartition(".")[0] or weight


def _weights_read(function: relax.Function) -> Mapping[str, list[str]]:
    """Return the names of the weights that each site reads, by its id.

    A value that is computed from weights only, such as a transposed matrix, counts as these.
    """
    weights = {var: [var.name] for var in weight_params(function)}
    found = {}
    for binding in bindings_in(function.body):
        if isinstance(binding.value, relax.Var) and binding.value in weights:
            weights[binding.var] = weights[binding.value]
        elif isinstance(binding.value, relax.Call):
            variables = relax.analysis.free_vars(binding.value)
            read = [name for var in variables for name in weights.get(var, ())]
            site = site_of(binding.value)
            if site is not None:
                found[site.id] = read
            if variables and all(var in weights for var in variables):
                weights[binding.var] = read
    return found
