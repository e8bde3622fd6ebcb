"""Every pipeline: what it can be given, and its graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

from sluice.steps.parameters import (
    MaterializationParameters,
    MonitoringParameters,
    PipelineParameters,
    PromotionParameters,
    TrainingOnNodesParameters,
    TrainingParameters,
)
from sluice_pipelines.accelerators import Devices
from sluice_pipelines.candidate import JOB, Parameters, candidate, only_if, otherwise, settle, trained_on_nodes
from sluice_pipelines.inputs import with_inputs
from sluice_pipelines.platforms import ClusterPlatform, Platform
from sluice_steps.exit_note import exit_note
from sluice_steps.materialize import materialize
from sluice_steps.other_branches import not_due
from sluice_steps.promote import promote
from sluice_steps.watch import watch

_FEATURES = {"SLUICE_REDIS": "SLUICE_REDIS", "SLUICE_FEATURES": "SLUICE_FEATURES"}
_STORE = {name: name for name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")}
_KEYS = {name: name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}


@dataclass(frozen=True)
class Pipeline:
    """
    One pipeline, as it is before KFP has seen it.

    Attributes:
        graph: adds the steps, given placeholders of the parameters.
        handler: name of the group that the exit note covers: all of the graph.
        on_devices: its steps that train get accelerators.
    """

    description: str
    parameters: type[PipelineParameters]
    graph: Callable[[Parameters, Platform], Any]
    handler: str = "candidate"
    on_devices: bool = False

    def build(self, name: str, devices: Devices | None = None) -> Any:
        """What KFP compiles; ``devices`` are of each step that trains, or of each node."""
        place = ClusterPlatform(devices if self.on_devices else None)

        def covered(parameters: Parameters) -> None:
            note = place(exit_note, {}, **JOB)
            with dsl.ExitHandler(note, name=self.handler):
                self.graph(parameters, place)

        return dsl.pipeline(with_inputs(self.parameters, covered), name=name, description=self.description)


def _training(parameters: Parameters, place: Platform) -> Any:
    return candidate(settle(parameters, place), place)


def _training_on_nodes(parameters: Parameters, place: Platform) -> None:
    candidate(settle({**parameters, "distribution": "single"}, place), place, trained_on_nodes)


def _monitoring(parameters: Parameters, place: Platform) -> None:
    settlement = settle(parameters, place)
    observation = place(watch, settlement)
    with only_if(observation.outputs["due"], "due"):
        candidate(settlement, place)
    otherwise(not_due, observation.outputs["reason"], place)


def _promotion(parameters: Parameters, place: Platform) -> None:
    place(promote, parameters, **JOB)


def _materialization(parameters: Parameters, place: Platform) -> None:
    task = place(materialize, parameters)
    kubernetes.use_config_map_as_env(task, "features", _FEATURES)
    kubernetes.use_config_map_as_env(task, "features", _STORE, optional=True)
    kubernetes.use_secret_as_env(task, "redis", {"password": "SLUICE_REDIS_PASSWORD"}, optional=True)
    kubernetes.use_secret_as_env(task, "feature-storage", _KEYS, optional=True)


_TRAIN = "Ingest, validate, train, compress, evaluate, gate, bundle, release."
_WATCH = "Watch production for drift, decay, new labels and age; train if due."
_PROMOTE = "Verify a bundle of the store and propose it to an environment."
_MATERIALIZE = "Bring the online store up to date: the newest row of every key, watermark last. Safe to repeat."
CATALOGUE: Mapping[str, Pipeline] = {
    "training": Pipeline(_TRAIN, TrainingParameters, _training),
    "training-gpu": Pipeline(_TRAIN, TrainingParameters, _training, on_devices=True),
    "training-on-nodes": Pipeline(_TRAIN, TrainingOnNodesParameters, _training_on_nodes, on_devices=True),
    "monitor-and-retrain": Pipeline(_WATCH, MonitoringParameters, _monitoring, "watch-and-train"),
    "monitor-and-retrain-gpu": Pipeline(_WATCH, MonitoringParameters, _monitoring, "watch-and-train", on_devices=True),
    "promotion": Pipeline(_PROMOTE, PromotionParameters, _promotion, "promotion"),
    "materialize": Pipeline(_MATERIALIZE, MaterializationParameters, _materialization, "materialize"),
}


def local_training() -> Any:
    """The graph of ``training`` on one machine; returns why the offline gate refuses, or nothing."""
    pipeline = with_inputs(TrainingParameters, lambda parameters: _training(parameters, Platform()), returns=str)
    return dsl.pipeline(pipeline, name="sluice-training", description=_TRAIN)
