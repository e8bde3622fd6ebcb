"""The graph that makes one candidate: wiring only. Pipelines differ in where its steps run and in what starts it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl, kubernetes

from sluice_pipelines.accelerators import Devices
from sluice_pipelines.placing import STORE, Place
from sluice_steps.build_features import build_features
from sluice_steps.bundle import bundle
from sluice_steps.check import check
from sluice_steps.compress import compress
from sluice_steps.evaluate import evaluate
from sluice_steps.gate import gate
from sluice_steps.image import STEPS_GPU_IMAGE, STEPS_IMAGE
from sluice_steps.infra_validate import infra_validate
from sluice_steps.ingest import ingest
from sluice_steps.release import release
from sluice_steps.select import select
from sluice_steps.train import train
from sluice_steps.train_on_nodes import train_on_nodes
from sluice_steps.validate import validate

Asked = Mapping[str, Any]
"""A pipeline's parameters by name, and later the settled ones."""
Train = Callable[[Asked, Any], Any]
"""Takes the parameters and the frame, returns the placed task that gives ``teacher``."""
_CHECKED = (
    "task",
    "environment",
    "recipe",
    "policy",
    "gitops",
    "bundles",
    "production",
    "now",
    "run",
    "source",
    "distribution",
    "checkpoints",
    "checkpoint_every",
    "feature_repo",
    "overlays",
)
_MOUNT = "/mnt/training"
_SETTLED = ("source", "recipe", "policy", "production", "now", "run")


def checked(asked: Asked, place: Place) -> Asked:
    """The parameters with every default settled; the first step of every graph."""
    job = {"job_name": dsl.PIPELINE_JOB_NAME_PLACEHOLDER, "job_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
    task = place(check(**{name: asked[name] for name in _CHECKED}, **job), "check")
    return {**asked, **{name: task.outputs[name] for name in _SETTLED}}


def trained_here(place: Place) -> Train:
    """One step trains, on all devices of its node if it is asked to."""

    def step(asked: Asked, frame: Any) -> Any:
        named = ("task", "recipe", "distribution", "checkpoints", "checkpoint_every")
        return place(train(**{name: asked[name] for name in named}, frame=frame), "train")

    return step


def trained_on_nodes(place: Place, devices: Devices | None) -> Train:
    """One step submits a TrainJob or TFJob, follows it, and fetches the teacher."""
    placement = {"image": STEPS_GPU_IMAGE if devices else STEPS_IMAGE, "storage": STORE, "mount": _MOUNT}
    if devices:
        kind = devices.accelerator.model_dump(exclude_none=True)
        named = ("cpu", "memory", "shared_memory", "node_selector", "tolerations")
        placement |= {"accelerator": kind["resource"], **{name: kind[name] for name in named}}

    def step(asked: Asked, frame: Any) -> Any:
        named = ("task", "recipe", "run", "operator", "nodes", "checkpoints", "checkpoint_every", "claim")
        fixed = {"placement": json.dumps(placement, sort_keys=True), "accelerators": devices.count if devices else 0}
        task = place(train_on_nodes(**{name: asked[name] for name in named}, **fixed, frame=frame), "train_on_nodes")
        return kubernetes.mount_pvc(task, asked["claim"], _MOUNT)

    return step


def candidate(asked: Asked, place: Place, training: Train) -> Any:
    """
    From the source to a proposed release, with the offline gate between.

    Args:
        asked: parameters, as ``checked`` gives them.

    Returns:
        The action of the last decision.
    """
    frame, known = _frame(asked, place)
    teacher = training(asked, frame).outputs["teacher"]
    ladder = place(compress(recipe=asked["recipe"], frame=frame, teacher=teacher), "compress").outputs["ladder"]
    chosen = select(policy=asked["policy"], recipe=asked["recipe"], frame=frame, ladder=ladder)
    selection = place(chosen, "select").outputs["selection"]
    models = {"frame": frame, "teacher": teacher, "ladder": ladder}
    evaluated = evaluate(
        **{name: asked[name] for name in ("task", "recipe", "run", "production", "bundles")},
        **known,
        **models,
        selection=selection,
    )
    evaluation = place(evaluated, "evaluate").outputs["evaluation"]
    return _released(asked, place, models, evaluation)


def _frame(asked: Asked, place: Place) -> tuple[Any, Asked]:
    """The frame, and what it was made of."""
    span = place(ingest(task=asked["task"], source=asked["source"]), "ingest").outputs["span"]
    report = place(validate(task=asked["task"], span=span), "validate").outputs["report"]
    built = build_features(task=asked["task"], feature_repo=asked["feature_repo"], span=span, report=report)
    return place(built, "build_features").outputs["frame"], {"span": span, "report": report}


def _released(asked: Asked, place: Place, models: Asked, evaluation: Any) -> Any:
    where = {name: asked[name] for name in ("gitops", "environment", "now", "record")}
    judged = place(gate(**where, run=asked["run"], policy=asked["policy"], evaluation=evaluation), "gate")
    made_of = {name: asked[name] for name in ("task", "recipe", "run")}
    packed = place(bundle(**made_of, passed=judged.outputs["Output"], **models, evaluation=evaluation), "bundle")
    made = {"digest": packed.outputs["Output"], "packed": packed.outputs["packed"]}
    served = place(infra_validate(**made, server=asked["server"], frame=models["frame"]), "infra_validate")
    proposed = release(
        **where,
        **made,
        bundles=asked["bundles"],
        report=served.outputs["report"],
        decision=judged.outputs["decision"],
    )
    return place(proposed, "release").outputs["Output"]
