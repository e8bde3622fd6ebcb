"""The graph that makes one candidate: wiring only. Pipelines differ in where its steps run and in what starts it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl, kubernetes

from sluice.steps.settlement import SettledParameters
from sluice_pipelines.platforms import STORE, Platform
from sluice_steps.build_features import build_features
from sluice_steps.bundle import bundle
from sluice_steps.check import check
from sluice_steps.compress import compress
from sluice_steps.evaluate import evaluate
from sluice_steps.gate import gate
from sluice_steps.image import image
from sluice_steps.infra_validate import infra_validate
from sluice_steps.ingest import ingest
from sluice_steps.other_branches import refused
from sluice_steps.release import release
from sluice_steps.select import select
from sluice_steps.step import PipelineStep
from sluice_steps.train import train
from sluice_steps.train_on_nodes import train_on_nodes
from sluice_steps.validate import validate

Parameters = Mapping[str, Any]
"""A pipeline's parameters by name, and later the settled ones: KFP's placeholders of their values."""
Train = Callable[[Parameters, Any, Platform], Any]
"""Takes the parameters and the frame, returns the task that gives ``teacher``."""
JOB = {"job_name": dsl.PIPELINE_JOB_NAME_PLACEHOLDER, "job_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
"""Name and id of a run; the first one is empty where a schedule started it."""
_MOUNT = "/mnt/training"


def settle(parameters: Parameters, place: Platform) -> Parameters:
    """The parameters with every default settled; the first step of every graph."""
    task = place(check, parameters, **JOB)
    return {**parameters, **{name: task.outputs[name] for name in SettledParameters._fields}}


def trained_here(parameters: Parameters, frame: Any, place: Platform) -> Any:
    """One step trains, on all devices of its node if it is asked to."""
    return place(train, parameters, frame=frame)


def trained_on_nodes(parameters: Parameters, frame: Any, place: Platform) -> Any:
    """One step submits a TrainJob or TFJob, follows it, and fetches the teacher."""
    devices = place.devices
    placement = {"image": image("steps-gpu" if devices else "steps"), "storage": STORE, "mount": _MOUNT}
    if devices:
        kind = devices.accelerator.model_dump(exclude_none=True)
        resources = ("cpu", "memory", "shared_memory", "node_selector", "tolerations")
        placement |= {"accelerator": kind["resource"], **{name: kind[name] for name in resources}}
    fixed = {"placement": json.dumps(placement, sort_keys=True), "accelerators": devices.count if devices else 0}
    return kubernetes.mount_pvc(place(train_on_nodes, parameters, **fixed, frame=frame), parameters["claim"], _MOUNT)


def candidate(parameters: Parameters, place: Platform, training: Train = trained_here) -> Any:
    """
    From the source to a proposed release, with the offline gate between.

    Args:
        parameters: as ``settle`` gives them.

    Returns:
        Why the offline gate refuses it; empty where it passes.
    """
    span = place(ingest, parameters).outputs["span"]
    validation = place(validate, parameters, span=span).outputs["validation"]
    frame = place(build_features, parameters, span=span, validation=validation).outputs["frame"]
    teacher = training(parameters, frame, place).outputs["teacher"]
    ladder = place(compress, parameters, frame=frame, teacher=teacher).outputs["ladder"]
    selection = place(select, parameters, frame=frame, ladder=ladder).outputs["selection"]
    evaluated = place(evaluate, parameters, frame=frame, teacher=teacher, ladder=ladder, selection=selection)
    return _released(parameters, place, frame, evaluated.outputs["evaluation"])


def _released(parameters: Parameters, place: Platform, frame: Any, evaluation: Any) -> Any:
    judgement = place(gate, parameters, evaluation=evaluation)
    with only_if(judgement.outputs["passed"], "passed"):
        bundled = place(bundle, parameters, frame=frame, evaluation=evaluation)
        artifact = {"digest": bundled.outputs["Output"], "packed": bundled.outputs["packed"]}
        validation = place(infra_validate, parameters, **artifact, frame=frame)
        with only_if(validation.outputs["passed"], "served"):
            documents = {"served": validation.outputs["served"], "decision": judgement.outputs["decision"]}
            place(release, parameters, **artifact, **documents)
        otherwise(refused, validation.outputs["reason"], place)
    otherwise(refused, judgement.outputs["reason"], place)
    return judgement.outputs["reason"]


def only_if(answer: Any, name: str) -> Any:
    """A box of steps that are skipped where ``answer`` is false."""
    return dsl.If(answer == True, name=name)  # noqa: E712  KFP reads the comparison


def otherwise(step: PipelineStep, reason: Any, place: Platform) -> None:
    """The other branch of the box before: says why it was skipped."""
    with dsl.Else(name=step.name):
        place(step, {}, reason=reason)
