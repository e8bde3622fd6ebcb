"""
The real model server on a model that gives no number for some instances.

    python failing_predictor.py AMOUNTS <arguments of sluice_serving.predictor>

AMOUNTS is a comma-separated list: an instance whose ``amount`` is one of them makes its whole request fail.
"""

from __future__ import annotations

import sys
from typing import Any

from sluice_serving import predictor

_CURSED = frozenset(float(amount) for amount in sys.argv.pop(1).split(",") if amount)
_load = predictor.load


class _Failing:
    """A bundle that is broken for some amounts."""

    def __init__(self, bundle: Any) -> None:
        self._bundle = bundle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bundle, name)

    def predict(self, columns: Any) -> Any:
        scores = self._bundle.predict(columns)
        scores[[amount in _CURSED for amount in columns["amount"]]] = float("nan")
        return scores


def load(options: Any) -> predictor.Predictor:
    """As the original, with the model broken."""
    found = _load(options)
    found.bundle = _Failing(found.bundle)  # type: ignore[assignment]
    return found


if __name__ == "__main__":
    predictor.load = load
    sys.exit(predictor.main())
