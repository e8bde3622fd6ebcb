"""
The first reading and scoring of an ONNX or LiteRT file, in a process of its own with bounded memory and time.

    python -m sluice.models.foreign.trial MODEL FORMAT ROWS OUT ANSWER LIMITS

``ANSWER`` is a ``GraphAnswer`` as JSON, ``LIMITS`` are ``TrialLimits`` with commas between. Into the folder ``OUT`` go
``model``, the file that is to be served, and where it takes rows of this width ``answers.npy``, what the given one said
of them (its own numbers, in the target's order), and ``outputs.npy``, what the served one says (raw outputs). Where
anything is wrong it ends with exit code 2, and the last line of standard error says what: JSON, thing, rule and fix.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from sluice.arrays import Floats, Floats32
from sluice.content import write_bytes
from sluice.errors import BadArtifact, SluiceError, one_line
from sluice.models.foreign.onnx_answer import GraphAnswer, with_answer
from sluice.models.runtime import FORMATS, FormatName, Scorer


class TrialLimits(NamedTuple):
    """What the process may take: memory of its own; seconds of the processor until its first answer and its last."""

    memory_bytes: int = 6 << 30
    first_cpu_s: int = 60
    all_cpu_s: int = 600

    def __str__(self) -> str:
        """For people."""
        seconds = f"{self.first_cpu_s} s of the processor for its first answer, {self.all_cpu_s} s for all"
        return f"{seconds}, and {self.memory_bytes >> 20} MiB of memory"


MODEL_FILE, ANSWERS_FILE, OUTPUTS_FILE = "model", "answers.npy", "outputs.npy"
_FIX = "give a smaller model"
_ALONE = 16
_ALONE_APART = 1e-4
"""Far more than the order of sums makes of a batch, far less than other rows do."""


def main(arguments: list[str]) -> int:
    """Entry point: one line and 2 where it cannot be scored."""
    model, name, rows, out, answer, numbers = arguments
    limits = TrialLimits(*map(int, numbers.split(",")))
    resource.setrlimit(resource.RLIMIT_DATA, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.first_cpu_s, limits.all_cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _try(Path(model), cast("FormatName", name), Path(rows), Path(out), GraphAnswer.of_json(answer), limits)
    except SluiceError as error:
        return refusal_exit(error)
    except MemoryError:
        return refusal_exit(
            BadArtifact("the model", f"needs more than {limits.memory_bytes >> 20} MiB of memory", _FIX)
        )
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises is said in one line
        return refusal_exit(BadArtifact("the model", f"cannot be scored ({one_line(error, 160)})", "export it again"))
    return 0


def _try(model: Path, name: FormatName, rows: Path, out: Path, answer: GraphAnswer, limits: TrialLimits) -> None:
    data = model.read_bytes()
    before = _answering(data, name, answer.unchanged)
    scorer = FORMATS[name].load(before)
    answer.check_width(scorer.outputs)
    model_file = _answering(data, name, answer)
    write_bytes(out / MODEL_FILE, model_file)
    x = np.load(rows, mmap_mode="r")
    if x.shape[1] != scorer.width:
        return
    scorer.raw(x[:1])
    resource.setrlimit(resource.RLIMIT_CPU, (limits.all_cpu_s, limits.all_cpu_s))
    answers = scorer.raw(x)
    check_rows_alone(scorer, x, answers)
    np.save(out / ANSWERS_FILE, answers[:, list(answer.columns)] if answer.columns else answers)
    np.save(out / OUTPUTS_FILE, answers if answer.plain else FORMATS[name].load(model_file).raw(x))


def _answering(data: bytes, name: FormatName, answer: GraphAnswer) -> bytes:
    return with_answer(data, answer) if name == "onnx" else data


def check_rows_alone(scorer: Scorer, x: Floats32, answers: Floats) -> None:
    """
    Accept a model that answers a row as it does among others.

    Args:
        x: rows that were asked at once, float32 (n, width). answers: what it said of them, (n, outputs).

    Raises:
        BadArtifact: one of 16 rows is answered otherwise when it is asked alone.
    """
    rows = np.unique(np.linspace(0, len(x) - 1, _ALONE).astype(int))
    among = answers[rows]
    alone = np.concatenate([scorer.raw(np.array(x[[row]])) for row in rows])
    apart = np.abs(alone - among) / np.maximum(1.0, np.abs(among))
    same = (apart <= _ALONE_APART) | (alone == among) | (np.isnan(alone) & np.isnan(among))
    if not same.all():
        worst = float(apart[~same].max())
        rule = f"answers a row {worst:.2g} otherwise when it is asked alone than among others"
        raise BadArtifact("the model", rule, "export it for inference: no row may depend on another")


def refusal_exit(error: SluiceError) -> int:
    """The exit code, after the last line, which ``sluice.operations.import_trial`` reads."""
    sys.stderr.write(f"\n{json.dumps([error.thing, error.rule, error.fix])}\n")
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
