"""Others on the same rows: a line of a table each, with the candidate's gain as a small interval around zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from sluice.charts import GUIDE, channel, chart, draw, mark
from sluice.documents.evaluation import Estimate, Evaluation, Peer
from sluice.targets.metric import Metric
from sluice.targets.registry import BINARY, metric_list, metrics_of, target_of
from sluice_local.report.wording import interval, number, signed


class PeerComparison(NamedTuple):
    """What models are compared by: the first metric of the kind's headline, whose gain is shown, and the loss."""

    first: Metric
    loss: Metric

    def gain(self, peer: Peer) -> Estimate | None:
        """Of the candidate over a peer: more is better."""
        difference = peer.difference.get(self.first.name)
        return difference if difference is None or self.first.higher else -difference

    @property
    def columns(self) -> dict[str, str]:
        """Names and headings of both."""
        return {metric.name: metric.heading for metric in self}


def comparison(evaluation: Evaluation | None) -> PeerComparison:
    """Of an evaluation's target; of binary ones while there is no evaluation."""
    target = target_of(evaluation.target) if evaluation else BINARY
    metrics = metrics_of(evaluation) if evaluation else metric_list(BINARY)
    by_name = {metric.name: metric for metric in metrics.known}
    return PeerComparison(by_name[target.headline[0]], by_name[metrics.loss])


@dataclass(frozen=True)
class PeerRow:
    """A line of the comparison table: cells are (value, interval) texts."""

    name: str
    digest: str | None
    cells: tuple[tuple[str, str], ...]
    strip: Markup | None


def peer_rows(evaluation: Evaluation) -> tuple[PeerRow, ...]:
    """The candidate, then each other model."""
    names = comparison(evaluation)
    others = [peer for peer in (*evaluation.baselines, evaluation.teacher, evaluation.production) if peer]
    gains = [gain for peer in others if (gain := names.gain(peer))]
    own = tuple(cell(evaluation.metrics.get(metric)) for metric in names.columns)
    rows = [PeerRow(f"this candidate ({evaluation.model})", None, (*own, ("", "")), None)]
    for peer in others:
        name = f"baseline: {peer.name}" if peer in evaluation.baselines else peer.name
        label = "production" if peer is evaluation.production else "teacher" if peer is evaluation.teacher else name
        best = " (best)" if peer.name == evaluation.best_baseline and peer in evaluation.baselines else ""
        gain = names.gain(peer)
        cells = (*(cell(peer.metrics.get(name)) for name in names.columns), cell(gain, difference=True))
        strip = _strip(gain, gains) if gain else None
        rows.append(PeerRow(label + best, peer.digest, cells, strip))
    return tuple(rows)


def cell(estimate: Estimate | None, *, difference: bool = False) -> tuple[str, str]:
    """(value, interval) for people."""
    if estimate is None:
        return ("–", "")
    figure = signed(estimate.value) if difference else number(estimate.value)
    return figure, interval(estimate.low, estimate.high, difference=difference)


def _strip(gain: Estimate, gains: Sequence[Estimate]) -> Markup:
    """A gain, to the right is better; all strips of a table have one scale."""
    tone = "pass" if gain.low > 0 else "fail" if gain.high < 0 else "other"
    hint = f"{signed(gain.value)} ({interval(gain.low, gain.high, difference=True)})"
    ends = [0.0, *(end for each in gains for end in (each.low, each.high))]
    x = channel("value:Q", axis=None, scale={"domain": [min(ends), max(ends) + 1e-9], "range": [8, 172], "nice": False})
    layers = [
        mark("rule", GUIDE, rows=[{"value": 0}], y=0, y2=20, color="var(--faint)"),
        mark("rule", x="low:Q", x2="high"),
        mark("point", description="hint"),
    ]
    rows = [{**gain.model_dump(), "hint": hint}]
    shared = {"x": x, "y": 10, "color": f"var(--{tone})"}
    return Markup(draw(chart(f"difference {hint}", rows, layers, {"width": 180, "height": 20}, **shared), inline=True))  # noqa: S704
