"""Requests by minute of event time, summed to what rules read; windows, or whole stages, add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.arrays import Floats, Ints
from sluice.documents.evidence import SIDES
from sluice.documents.minutes import MinuteCounts, Minutes, MinuteSums, RefusalCounts
from sluice.evidence.moments import rounded

_SHARE, _LEAST = 0.1, 2
_ALIKE = 0.5
"""A fault is shared where stable fails at least half as much as the candidate."""
TEN = 10
"""Minutes in which a shared fault is looked for too: of a quiet service one alone may hold one request."""
_SIDE = 18
COLUMNS = 1 + 2 * _SIDE
"""Of ``minute_columns``: how many there are."""


def _failing(requests: Floats, errors: Floats) -> NDArray[np.bool_]:
    """A time fails in which a tenth of the requests fail, and two at least: one alone is nothing that they share."""
    return np.asarray((errors >= _LEAST) & (errors >= _SHARE * requests))


def _shared(requests: Floats, errors: Floats) -> NDArray[np.bool_]:
    """Whether both sides (2, T) fail, and stable so much that it is no fault of the candidate's."""
    both = np.logical_and.reduce(_failing(requests, errors))
    alike = errors[1] * requests[0] >= _ALIKE * errors[0] * requests[1]
    return np.asarray(both & alike)


def minute_columns(
    ten: Ints, requests: Floats, errors: Floats, milliseconds: Floats, asked: Floats, refused: Floats
) -> Floats:
    """
    What adds up over minutes, (``COLUMNS``, M).

    Args:
        ten: (M,) number of the ten minutes that each is in, from 0.
        requests, errors, milliseconds: (2, M), of candidate and stable; milliseconds are sums.
        asked, refused: (2, M), all requests and those of them that were refused. What both sides refuse in a minute
            stays in it: clients who err are always there, so it would excuse a side that refuses more.
    """
    failing = _failing(requests, errors)
    longer = _shared(_summed(ten, requests), _summed(ten, errors))
    both = _shared(requests, errors) | (longer[ten] & np.logical_or.reduce(errors > 0))
    columns = [both]
    sides = zip(requests, errors, milliseconds, failing & ~both, asked, refused, strict=True)
    for n, x, ms, fails, of, refusals in sides:
        alone = ~both & (n > 0)
        inside, wrong = n * alone, x * alone
        columns += [alone, inside, wrong, inside**2, wrong**2, inside * wrong, fails, n * both, x * both]
        columns += [of > 0, of, refusals, of * of, refusals * refusals, of * refusals]
        columns += [n * n, ms * ms, n * ms]
    return np.stack(columns).astype(np.float64)


def _summed(place: Ints, rows: Floats) -> Floats:
    return np.stack([np.bincount(place, row) for row in rows])


def minutes_of(sums: Sequence[float], sides: Sequence[str] = SIDES) -> Minutes:
    """The document of summed columns; ``sides`` that there are."""
    counts = {side: _counts(one) if side in sides else None for side, one in zip(SIDES, _by_side(sums), strict=True)}
    return Minutes(both_failing=round(sums[0]), **counts)


def candidate_counts(sums: Sequence[float]) -> MinuteCounts:
    """The candidate's alone."""
    return _counts(_by_side(sums)[0])


def millisecond_sums(sums: Sequence[float]) -> dict[str, MinuteSums]:
    """``Timings``' part of summed columns, of sides that were timed."""
    parts = zip(SIDES, _by_side(sums), strict=True)
    return {f"{side}_minutes": _sums(one[-3:]) for side, one in parts if one[-2] > 0}


def _by_side(sums: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    return sums[1 : 1 + _SIDE], sums[1 + _SIDE :]


def _counts(one: Sequence[float]) -> MinuteCounts:
    minutes, requests, errors, _, _, _, failing, path_requests, path_errors = map(round, one[:9])
    counts: dict[str, Any] = {"minutes": minutes, "requests": requests, "errors": errors, "failing": failing}
    path = {"path_requests": path_requests, "path_errors": path_errors}
    return MinuteCounts(**counts, **path, sums=_sums(one[3:6]), refusals=_refusals(one[9:15]))


def _refusals(columns: Sequence[float]) -> RefusalCounts | None:
    minutes, requests, refused = map(round, columns[:3])
    if not refused:
        return None
    return RefusalCounts(minutes=minutes, requests=requests, refused=refused, sums=_sums(columns[3:]))


def _sums(one: Sequence[float]) -> MinuteSums:
    counts, values, products = map(rounded, one)
    return MinuteSums(counts=counts, values=values, products=products)
