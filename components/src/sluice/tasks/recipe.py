"""What to train: the frozen description that a pipeline run starts from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sluice.documents.model import FrozenDocument

Precision = Literal["float32", "mixed_bfloat16"]
Setting = bool | int | float | str | tuple[int | float | str, ...]
Variant = Literal["teacher_f32", "student_f32", "student_int8", "student_pruned_int8", "student_qat_int8"]


class Recipe(FrozenDocument):
    """
    One candidate: its features, its sizes, its seed.

    ``transform`` and ``train_transform`` are column-to-SQL expressions (polars SQL) that are applied to the
    training frame after the features were read: to every row, and to the rows of the train split alone. Whatever is
    done here is *not* done while serving; the online gate is there to find out.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{1,40}$")
    description: str
    features: tuple[str, ...] = Field(min_length=1)
    """Names of features of the task's feature service, in the order of the model's input."""
    family: str = Field(default="mlp", max_length=200, exclude_if=lambda name: name == "mlp")
    """What kind of model the teacher is: a name of ``sluice.training.families.registry``, or ``module:attribute`` of a
    function ``build(keras, inputs, spec)`` or of a family. Left out of the document where it is the perceptron."""
    settings: dict[str, Setting] = Field(default={}, exclude_if=lambda settings: not settings)
    """What the family knows beyond the fields below (depth, rounds, ...); the family checks them."""
    teacher: tuple[int, ...] = (256,)
    """Units of the teacher's hidden layers."""
    student: tuple[int, ...] = (64, 32)
    """Units of the student's hidden layers."""
    student_epochs: int | None = Field(default=None, ge=1, le=500, exclude_if=lambda epochs: epochs is None)
    """Epochs of the student's distillation. Left out, 6, and of few rows as many more as give it 600 steps, within
    100; left out of the document then."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    epochs: int = Field(default=5, ge=1, le=500)
    batch_size: int = Field(default=1024, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    seed: int = Field(default=20130101, ge=0)
    precision: Precision = Field(default="float32", exclude_if=lambda value: value == "float32")
    """What the teacher's hidden layers compute in while it is trained: ``mixed_bfloat16`` is for devices that have it,
    slower elsewhere. Left out of the document where it is float32."""
    variants: tuple[Variant, ...] = (
        "teacher_f32",
        "student_f32",
        "student_int8",
        "student_pruned_int8",
        "student_qat_int8",
    )
    transform: dict[str, str] = {}
    train_transform: dict[str, str] = {}
