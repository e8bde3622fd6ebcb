"""
What a notebook asks for, as Polars: frames, evaluations, predictions, models. ``import sluice`` brings these names, and
loads them when the first is used.

    import sluice

    model = sluice.load("sha256:4f1c")
    model.predict(sluice.read_frame("first"))
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from sluice.documents.evaluation import Evaluation
from sluice.errors import BadInput
from sluice.models.bundle import Bundle, load_bundle
from sluice.predictions.windows import list_windows, read_window
from sluice.workspace import Workspace

_SHORTEST = 4
_EVALUATED = {
    "slice": pl.String,
    "value": pl.String,
    "n": pl.Int64,
    "metric": pl.String,
    "estimate": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


@dataclass(frozen=True)
class LoadedModel:
    """A verified model of this machine's store."""

    bundle: Bundle

    @property
    def digest(self) -> str:
        """``sha256:`` and 64 hex digits."""
        return self.bundle.digest

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns that it reads, in order."""
        return self.bundle.manifest.features.names

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """
        Predictions for rows that have its features: a Float64 column for each of ``target.columns``.

        Raises:
            BadInput: a feature is no column of the rows.
        """
        if absent := [name for name in self.features if name not in rows.columns]:
            rule = f"have no column {absent[0]!r}, a feature of the model"
            raise BadInput("the rows", rule, f"give {', '.join(self.features)}")
        predictions = np.asarray(self.bundle.predict(rows.select(self.features))).reshape(rows.height, -1)
        return pl.DataFrame(predictions, schema=dict.fromkeys(self.bundle.target.columns, pl.Float64))


def load(digest: str, home: Path | None = None) -> LoadedModel:
    """
    The model with this digest, or the only one whose digest begins so, verified.

    Args:
        digest: ``sha256:…``; the first four hex digits will do.
        home: of the runs, ``.sluice`` or ``SLUICE_HOME`` if left out.

    Raises:
        BadInput: none is called so, or several are.
        BadArtifact: it is not what its digest says.
    """
    store = _workspace(home).bundles
    start = digest.removeprefix("sha256:").removeprefix("sha256-")
    candidates = sorted(store.glob(f"sha256-{start}*")) if start.isalnum() and len(start) >= _SHORTEST else []
    if len(candidates) != 1:
        rule = f"is the beginning of {len(candidates)} digests in {store}"
        raise BadInput(f"model {digest!r:.80}", rule, "`sluice status` names those that are in use")
    return LoadedModel(load_bundle(candidates[0]))


def read_frame(run: str, home: Path | None = None) -> pl.DataFrame:
    """
    The rows that a run learned from and was judged on: ``split``, times, label, keys and features.

    Args:
        run: name of a chapter, or of its folder below ``runs/``.

    Raises:
        BadInput: there is no such run, or its frame is gone.
    """
    places = json.loads(_document(run, "inputs.json", home))
    path = Path(places["frame"]) / "frame.parquet"
    if not path.is_file():
        raise BadInput(str(path), "is not there any more", "run `sluice run` again")
    return pl.read_parquet(path)


def read_evaluation(run: str, home: Path | None = None) -> pl.DataFrame:
    """
    How good a run's candidate is: ``slice``, ``value`` (both empty for all rows), ``n``, ``metric``, ``estimate``,
    ``low``, ``high``.

    Raises:
        BadInput: there is no such run, or it came to no evaluation.
    """
    evaluation = Evaluation.model_validate_json(_document(run, "evaluation.json", home))
    parts = [
        ("", "", evaluation.n, evaluation.metrics),
        *((each.slice, each.value, each.n, each.metrics) for each in evaluation.slices),
    ]
    rows = [
        (part, value, count, name, estimate.value, estimate.low, estimate.high)
        for part, value, count, metrics in parts
        for name, estimate in metrics.items()
    ]
    return pl.DataFrame(rows, schema=_EVALUATED, orient="row")


def read_predictions(environment: str, home: Path | None = None) -> pl.DataFrame:
    """
    The prediction log of an environment, all windows, in order of time.

    Raises:
        BadInput: nothing was served there.
        BadArtifact: a window cannot be read.
    """
    folder = _workspace(home).predictions / environment
    windows = list_windows(folder)
    if not windows:
        raise BadInput(str(folder), "has no predictions", "name an environment that has served")
    return pl.concat([read_window(window) for window in windows], how="diagonal_relaxed")


def _workspace(home: Path | None) -> Workspace:
    return Workspace(home.absolute()) if home is not None else Workspace.from_environment()


def _document(run: str, name: str, home: Path | None) -> bytes:
    runs = _workspace(home).home / "runs"
    there = sorted(path for path in runs.glob("*") if run in (path.name, path.name.partition("-")[2]))
    if len(there) != 1 or not (there[0] / name).is_file():
        names = ", ".join(sorted(path.name for path in runs.glob("*"))) or "none"
        raise BadInput(f"run {run!r:.80}", f"has no {name} in {runs}", f"choose from {names}")
    return (there[0] / name).read_bytes()
