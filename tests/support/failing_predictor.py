"""
The real model server on a model that gives no number for some instances, or takes none of some.

    python -m tests.support.failing_predictor AMOUNTS[/REFUSED] <arguments of sluice_serving.predictor>

AMOUNTS is a comma-separated list: an instance whose ``amount`` is one of them makes its whole request fail; one whose
``amount`` is in REFUSED has it refused.
"""

from __future__ import annotations

import sys
from typing import Any

from sluice.models.request import BadRequest, InferenceRequest
from sluice.models.request import parse_v1 as request_v1
from sluice_serving import predictor

_CURSED, _REFUSED = (
    frozenset(float(amount) for amount in amounts.split(",") if amount)
    for amounts in f"{sys.argv.pop(1)}/".split("/")[:2]
)
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


def parse_v1(*arguments: Any, **more: Any) -> InferenceRequest:
    """As the original, for a contract that is stricter."""
    request = request_v1(*arguments, **more)
    if any(instance["amount"] in _REFUSED for instance in request.instances):
        raise BadRequest("instances[0].amount", "is too odd", "send another", part="values")
    return request


if __name__ == "__main__":
    predictor.load = load
    vars(predictor)["parse_v1"] = parse_v1
    sys.exit(predictor.main())
