"""How a training is spread and kept, and what it says of itself."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pydantic import AliasChoices, Field

from sluice.arrays import Floats
from sluice.documents.model import FrozenDocument
from sluice.errors import BadInput
from sluice.training.checkpoint import CheckpointStore
from sluice.training.curve import Epoch
from sluice.training.distribution import ONE_DEVICE, Distribution, read_cluster


class TrainingRecord(FrozenDocument):
    """How the training went."""

    epochs: int
    """Epochs that were run; of trees, rounds."""
    best_epoch: int
    """The one whose weights were kept, from 1."""
    loss: str = "log_loss"
    """How the target calls what ``tune_loss`` and the curves are; documents of before know log loss alone."""
    tune_loss: float = Field(validation_alias=AliasChoices("tune_loss", "tune_log_loss"))
    tune_auc: float | None
    temperature: float | tuple[float, ...]
    """Logits were divided by it, or each by its own (Guo et al. 2017, "On Calibration of Modern Neural Networks",
    section 4.2); 1 where outputs are none."""
    positive_weight: float
    parameters: int
    width: int
    history: tuple[Epoch, ...]

    @property
    def figures(self) -> dict[str, float]:
        """What a run shows of it, by name."""
        return {"epochs": self.epochs, f"tune_{self.loss}": self.tune_loss}


def temperature_of(divisors: Floats) -> float | tuple[float, ...]:
    """One number where all (outputs,) are the same."""
    numbers = tuple(float(number) for number in divisors)
    return numbers[0] if len(set(numbers)) == 1 else numbers


@dataclass(frozen=True)
class TrainingSetup:
    """
    How a training is spread and kept; the default is one device and no checkpoint.

    Attributes:
        distribution: over which devices.
        checkpoints: folder or URL of this training's checkpoint; empty keeps none.
        every: optimizer steps between two checkpoints.
    """

    distribution: Distribution = ONE_DEVICE
    checkpoints: str = ""
    every: int = 200

    def __post_init__(self) -> None:
        """Raises BadInput where no step lies between two checkpoints."""
        if self.every < 1:
            raise BadInput("checkpoint interval", f"{self.every} steps are not one step", "give at least 1")

    @property
    def in_steps(self) -> bool:
        """Whether it takes more than Keras's ``fit``."""
        return bool(self.checkpoints) or self.distribution.kind != "single"

    @property
    def store(self) -> CheckpointStore | None:
        """Where checkpoints are kept."""
        return CheckpointStore(self.checkpoints) if self.checkpoints else None

    @property
    def chief(self) -> bool:
        """Whether this process writes what comes of the training."""
        return self.distribution.kind != "multi_worker" or read_cluster(os.environ).chief


ALONE = TrainingSetup()
"""On one device, without checkpoints."""
