"""
A foreign model for the first time: converted or scored by a child whose memory and time have an end.

Whatever it does there, this process goes on, and says in one line what became of it.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sluice.arrays import Floats, Floats32
from sluice.errors import BadArtifact, BadInput
from sluice.models.foreign import trial
from sluice.models.foreign.kinds import ForeignModel
from sluice.models.foreign.onnx_answer import GraphAnswer
from sluice.models.runtime import FormatName
from sluice.models.trees.export import TOLERANCE
from sluice.targets.kind import TargetKind
from sluice.targets.link import LINKS, LinkName, link_of

LIMITS = trial.TrialLimits()
CONVERSION_BOUNDS = "20 minutes of the processor and 12 GiB of memory"
"""What ``sluice.training.conversion`` gives itself."""
_WALL_S = 1800
_ROUNDING = 1e-6
"""So much beyond its range is what float32 makes of a prediction: a mean of trees says 1.0000001."""
_EXPORT = "export it as ONNX, see docs/import.md"
_SMALLER = "give a smaller model"
_MISSING = "does it take NaN for a missing number? see `missing` in docs/import.md"


@dataclass(frozen=True, eq=False)
class ModelTrial:
    """
    A model's file that went through it.

    Attributes:
        data: the file that is to be served.
        answers: float64 (n, k) what the model answered to the rows, in the target's order of columns.
        outputs: float64 (n, k) raw outputs of the served file. Both are empty where it takes rows of another width.
    """

    data: bytes
    answers: Floats
    outputs: Floats


def model_trial(source: Path, data: bytes, name: FormatName, answer: GraphAnswer, rows: Floats32) -> ModelTrial:
    """
    What an ONNX or LiteRT file answers to encoded rows (n, width), in a child.

    Args:
        source: how messages call it.
        data: the file.
        answer: what of its outputs is asked.

    Raises:
        BadArtifact, BadInput: it breaks a rule, needs too much, or ends its process.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "given").write_bytes(data)
        command = ["sluice.models.foreign.trial", str(folder / "given"), name]
        return _child(source, folder, rows, command, [answer.as_json(), ",".join(map(str, LIMITS))], str(LIMITS))


def conversion_trial(source: ForeignModel, answer: GraphAnswer, missing: float | None, rows: Floats32) -> ModelTrial:
    """
    A ``.keras`` file or a SavedModel as LiteRT: TensorFlow runs what it reads, and this process imports none.

    Raises:
        BadArtifact, BadInput: as of ``sluice.training.conversion``, or the child ended otherwise.
    """
    with tempfile.TemporaryDirectory() as scratch:
        options = ["--answer", answer.as_json()]
        options += ["--missing", repr(missing)] if missing is not None else []
        command = ["sluice.training.conversion", str(source.path)]
        return _child(source.path, Path(scratch), rows, command, options, CONVERSION_BOUNDS)


def _child(
    source: Path, folder: Path, rows: Floats32, module: Sequence[str], options: Sequence[str], bounds: str
) -> ModelTrial:
    np.save(folder / "rows.npy", rows)
    command = [sys.executable, "-m", *module, str(folder / "rows.npy"), str(folder), *options]
    try:
        process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_WALL_S)
    except subprocess.TimeoutExpired as error:
        raise BadArtifact(str(source), f"has not answered after {_WALL_S} s", _SMALLER) from error
    if process.returncode or not (folder / trial.MODEL_FILE).is_file():
        raise _refusal(source, process, bounds)
    empty = np.empty((0, 0))
    answers, outputs = (
        np.load(folder / name) if (folder / name).is_file() else empty
        for name in (trial.ANSWERS_FILE, trial.OUTPUTS_FILE)
    )
    return ModelTrial((folder / trial.MODEL_FILE).read_bytes(), answers, outputs)


def _refusal(source: Path, process: subprocess.CompletedProcess[bytes], bounds: str) -> BadArtifact:
    """What the child said; of one that was ended from outside, how."""
    lines = process.stderr.decode("utf-8", "replace").strip().splitlines()
    if process.returncode == 2 and lines:
        with contextlib.suppress(ValueError, TypeError):
            return BadArtifact(*json.loads(lines[-1]))
    slow = process.returncode == -signal.SIGXCPU
    ending = f"signal {-process.returncode}" if process.returncode < 0 else f"code {process.returncode}"
    what = "takes longer than it may" if slow else f"ends the process that reads it ({ending})"
    return BadArtifact(str(source), f"{what}; it has {bounds}", f"{_SMALLER}, or {_EXPORT}")


def check_answers(model: Path, target: TargetKind, inverse: LinkName | None, candidate: ModelTrial) -> None:
    """
    Accept what a model said of the holdout.

    Args:
        inverse: the link whose inverse was taken of its answers, or ``None`` where they are raw outputs.

    Raises:
        BadArtifact: answers that are no finite numbers or, where they are predictions, none of the target's; or a
            served file that says something else.
    """
    answers, rows = candidate.answers, len(candidate.answers)
    if bad := int((~np.isfinite(answers).all(axis=1)).sum()):
        raise BadArtifact(str(model), f"answers NaN or infinity in {bad} of {rows} rows of the holdout", _MISSING)
    if inverse is None:
        return
    nearest = np.clip(answers, LINKS[inverse].low, LINKS[inverse].high)
    wrong = ~target.are_predictions(np.where(np.abs(nearest - answers) <= _ROUNDING, nearest, answers))
    if wrong.any():
        first = ", ".join(f"{number:g}" for number in answers[np.argmax(wrong)][:4])
        rule = f"answers what are not {target.noun} in {wrong.sum()} of {rows} rows of the holdout: {first:.80}"
        raise BadArtifact(str(model), rule, "say in `answers` of the spec what its numbers are")
    apart = np.abs(target.link(candidate.outputs) - answers) / np.maximum(1.0, np.abs(answers))
    if not apart.max() <= TOLERANCE:
        rule = f"answers {apart.max():.2g} otherwise when its answers are made raw outputs"
        raise BadArtifact(str(model), rule, f"export its raw outputs, {LINKS[inverse].raw}, if it has them")


def check_word(model: Path, target: TargetKind, candidate: ModelTrial) -> None:
    """
    Accept raw outputs that nobody called so.

    Raises:
        BadInput: they might as well be predictions, in every row: probabilities of which logits are made are no less
            plausible than their model, and wrong.
    """
    link = LINKS[link_of(target)]
    if link.raw == link.prediction or not target.are_predictions(candidate.answers).all():
        return
    rows = len(candidate.answers)
    rule = f"answers what may be a {link.prediction} or a {link.raw} in all {rows} rows of the holdout"
    raise BadInput(str(model), rule, f"say `answers: {link.prediction}` or `answers: {link.raw}` in the --spec")
