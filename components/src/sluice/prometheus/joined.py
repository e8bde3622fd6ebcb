"""Read back what ``sluice.prometheus.exposition`` exposes: the parts of evidence that need labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sluice.documents.evidence import Cells, Imputed, Moments, Pairs, Share, SliceEvidence, Stratum
from sluice.evidence.moments import rounded
from sluice.prometheus.exporter import Sample
from sluice.prometheus.exposition import SIDES


@dataclass(frozen=True)
class Joined:
    """The joined part of one look; empty where nobody exposes any."""

    now: float | None
    """Event time of the join, seconds."""
    arms: Mapping[str, Mapping[str, Any]]
    """``due``, ``labelled`` and ``loss`` of each side."""
    strata: tuple[Stratum, ...]
    pairs: Pairs
    slices: Mapping[str, SliceEvidence]
    skew_n: int
    skew: Mapping[str, float]
    cells: Cells | None


class _Numbers:
    """The samples by name and by the labels that tell them apart."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.values: dict[tuple[str, str, str, str], float] = {}
        self.skew: dict[str, float] = {}
        for sample in samples:
            name = sample.name.removeprefix("sluice_")
            side, window, part = (sample.labels.get(key, "") for key in ("route", "window", "slice"))
            if name == "skew":
                self.skew[sample.labels.get("feature", "")] = sample.value
            else:
                self.values[name, side, window, part] = sample.value

    def count(self, name: str, side: str = "", part: str = "") -> int:
        """A whole number; 0 where there is none."""
        return round(self.values.get((name, side, "", part), 0))

    def moments(self, name: str, side: str = "", window: str = "", part: str = "") -> Moments | None:
        """From count, sum and sum of squares."""
        keys = [(f"{name}_{suffix}", side, window, part) for suffix in ("count", "sum", "squares")]
        if any(key not in self.values for key in keys):
            return None
        n, total, squares = (self.values[key] for key in keys)
        if n < 1:
            raise ValueError(f"{name}_count is {n:g}, at least 1 is meant")
        variance = max(squares - total * total / n, 0.0) / (n - 1) if n > 1 else 0.0
        return Moments(n=round(n), mean=rounded(total / n), variance=rounded(variance))

    def share(self, whole: str, hits: str, side: str = "", part: str = "") -> Share | None:
        n = self.count(whole, side, part)
        return Share(n=n, hits=self.count(hits, side, part)) if n else None

    def imputed(self, side: str, window: str) -> Imputed | None:
        every, rectifier = (self.moments(name, side, window) for name in ("imputed", "rectifier"))
        return Imputed(every=every, rectifier=rectifier) if every and rectifier else None

    def strata(self, part: str) -> tuple[Stratum, ...]:
        """Of one slice, or of all rows; those that both sides have."""
        windows = {key[2] for key in self.values if key[0] == "loss_count" and key[3] == part and key[2]}
        found = []
        for window in sorted(windows):
            candidate, stable = (self.moments("loss", side, window, part) for side in SIDES)
            ours, theirs = (None if part else self.imputed(side, window) for side in SIDES)
            if candidate and stable:
                found.append(
                    Stratum(
                        window=window,
                        candidate=candidate,
                        stable=stable,
                        candidate_imputed=ours,
                        stable_imputed=theirs,
                    )
                )
        return tuple(found)


def joined_parts(samples: Iterable[Sample]) -> Joined:
    """
    The parts that the samples of one stage say.

    Raises:
        ValueError: numbers that contradict each other, such as more hits than requests.
    """
    numbers = _Numbers(samples)
    names = {key[3] for key in numbers.values if key[0] == "slice_requests"}
    return Joined(
        now=numbers.values.get(("joined_now_seconds", "", "", "")),
        arms={
            side: {
                "due": numbers.count("labels_due", side),
                "labelled": numbers.count("labels_known", side),
                "loss": numbers.moments("loss", side),
            }
            for side in SIDES
        },
        strata=numbers.strata(""),
        pairs=Pairs(
            shift=numbers.moments("pair_shift"),
            loss=numbers.moments("pair_loss"),
            agreement=numbers.share("agreement_pairs", "agreement_same"),
        ),
        slices={name: _slice(numbers, name) for name in sorted(names)},
        skew_n=numbers.count("skew_rows"),
        skew=numbers.skew,
        cells=_cells(numbers),
    )


def _cells(numbers: _Numbers) -> Cells | None:
    compared, excluded = numbers.count("cells_compared"), numbers.count("cells_excluded")
    different = numbers.count("cells_different")
    return Cells(compared=compared, different=different, excluded=excluded) if compared or excluded else None


def _slice(numbers: _Numbers, name: str) -> SliceEvidence:
    candidate, stable = (numbers.share("slice_requests", "slice_errors", side, name) for side in SIDES)
    return SliceEvidence(
        candidate=candidate,
        stable=stable,
        strata=numbers.strata(name),
        pairs=numbers.moments("pair_loss", part=name),
    )
