"""Arrays by what they hold; their shapes are where they are used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
"""What a network takes and keeps: encoded rows, labels, weights."""
Ints = NDArray[np.int64]
