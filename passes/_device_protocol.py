"""The functions that the host's program calls to use the device."""

from __future__ import annotations

UPLOAD = "relax_tapml.device.upload"
"""Takes a tensor of the host, returns a handle of its copy on the device."""

PARAMETER = "relax_tapml.device.parameter"
"""Takes the name of a weight, returns a handle of the device's copy, which it keeps."""

RUN = "relax_tapml.device.run"
"""Takes the name of a region function and its arguments (handles, shapes), returns handles."""

DOWNLOAD = "relax_tapml.device.download"
"""Takes a handle, returns a copy on the host."""

REGION_ATTR = "relax_tapml.region"
"""Function attribute: the name of the function whose operators a device function holds, or, if
several regions are equal, of the function that has the first of them."""
