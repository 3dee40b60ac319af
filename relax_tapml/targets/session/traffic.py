"""How many bytes are transferred between this process and a device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes of tensors; code and messages are not counted.

    Parameters
    ----------
    to_device, to_host
        Sent, and fetched.
    """

    to_device: int = 0
    to_host: int = 0

    @property
    def total(self) -> int:
        """The sum of both."""
        return self.to_device + self.to_host

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            to_device=self.to_device + other.to_device, to_host=self.to_host + other.to_host
        )

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(
            to_device=self.to_device - other.to_device, to_host=self.to_host - other.to_host
        )
