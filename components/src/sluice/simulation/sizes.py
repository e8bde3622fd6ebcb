"""How much may be asked of a simulation: beyond, it would never end, or fit into no machine."""

from __future__ import annotations

from collections.abc import Mapping

from sluice.errors import BadInput

RANGES = {
    "--rollouts": (1, 1_000_000),
    "--requests-a-day": (0.001, 10_000_000),
    "--look-every": (0.1, 8784),
    "--hours": (0.1, 8784),
    "--margin-sd": (1e-6, 1_000_000),
    "look_every_hours": (0.1, 8784),
}
"""Smallest and largest value of each option, and of what stands in the policy for one."""


def require_sizes(sizes: Mapping[str, float | None]) -> None:
    """
    Require the values of options to be in their ranges; one that was not given is.

    Raises:
        BadInput: one is not, or is NaN.
    """
    for name, value in sizes.items():
        least, most = RANGES[name]
        if value is not None and not least <= value <= most:
            number = "beyond all measure" if abs(value) > 1e300 else f"{value:g}"  # of 320 digits there is no float
            raise BadInput(name, f"is {number}", f"give a number from {least:g} to {most:,}")
