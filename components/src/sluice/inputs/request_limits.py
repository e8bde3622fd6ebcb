"""What one value of a request may be: a server refuses others, so no row that a model learns from may have one."""

from __future__ import annotations

LONGEST_TEXT = 256
"""Characters."""
LARGEST_FLOAT = 3.4028234663852886e38
"""Of 32 bits, which models compute in."""
LARGEST_INT = 2**63 - 1
