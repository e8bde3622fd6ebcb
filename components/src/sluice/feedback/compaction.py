"""
Labels come in many small objects: those of hours that are over are put together, an hour at a time.

Whoever looks at months of labels would else read hundreds of thousands of objects, for minutes.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from sluice.errors import BadArtifact
from sluice.feedback.store import PredictionStore

_HOUR = timedelta(hours=1)
_LATE = timedelta(minutes=10)
"""After an hour's end, for what was received in it and is still being written; later labels only cost the shortcut."""
_LISTINGS = 24
"""Hours to look at in one go, where there is nothing to do in them."""


@dataclass
class LabelCompaction:
    """Goes through the hours of a store, from the first that has labels on; what was done before is left alone."""

    store: PredictionStore
    _next: datetime | None = None

    def advance(self, now: datetime) -> bool:
        """
        Put the labels of one hour together; whether there was one.

        Raises:
            Unavailable: the store does not answer; the same hour is next.
        """
        self._next = self._next or self.store.first_labels()
        for _ in range(_LISTINGS):
            if self._next is None or self._next + _HOUR + _LATE > now:
                return False
            work = False
            with contextlib.suppress(BadArtifact):  # whoever needs these labels will say what is wrong with them
                work = self.store.compact(self._next)
            self._next += _HOUR
            if work:
                return True
        return False
