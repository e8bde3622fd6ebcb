"""Where a training runs: on one device, on all devices of a node, on several nodes, or with a model cut into shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sluice.documents.model import FrozenDocument
from sluice.errors import BadInput, one_line

DistributionKind = Literal["single", "mirrored", "multi_worker", "model_parallel"]
PORT = 2222
"""TCP port that workers meet on; the one that Kubeflow's operators open too."""


class Distribution(FrozenDocument):
    """
    How one training is spread.

    ``mirrored`` puts a copy of the model on every device of the node, ``multi_worker`` on every device of all nodes
    that ``TF_CONFIG`` names; each copy sees its share of the same global batch. ``model_parallel`` cuts the model.
    """

    kind: DistributionKind = "single"
    model_shards: int = Field(default=1, ge=1)
    """Devices that one layer is cut over (``model_parallel``); the devices beyond share the batch."""


ONE_DEVICE = Distribution()


class _WorkerRole(BaseModel):
    model_config = ConfigDict(frozen=True)

    type: Literal["chief", "worker"]
    index: int = Field(ge=0)


class WorkerCluster(BaseModel):
    """``TF_CONFIG``, as the training operators write it: addresses by role, and which of them this process is."""

    model_config = ConfigDict(frozen=True)

    cluster: dict[Literal["chief", "worker"], tuple[str, ...]]
    task: _WorkerRole

    @property
    def size(self) -> int:
        """Processes that train."""
        return sum(len(addresses) for addresses in self.cluster.values())

    @property
    def chief(self) -> bool:
        """Whether this process writes checkpoints and results."""
        return self.task.type == "chief" or ("chief" not in self.cluster and self.task.index == 0)


def read_cluster(environ: Mapping[str, str]) -> WorkerCluster:
    """
    The cluster that ``TF_CONFIG`` describes.

    Raises:
        BadInput: the variable is missing, is not JSON of that form, or names a task that the cluster does not have.
    """
    text = environ.get("TF_CONFIG", "")
    fix = "start the workers by a TrainJob or TFJob, or set it by hand"
    if not text:
        raise BadInput("TF_CONFIG", "is not set, and several workers find each other by it", fix)
    try:
        cluster = WorkerCluster.model_validate_json(text)
    except ValidationError as error:
        raise BadInput("TF_CONFIG", one_line(error), fix) from error
    if cluster.task.index >= len(cluster.cluster.get(cluster.task.type, ())):
        rule = f"has no {cluster.task.type} number {cluster.task.index}"
        raise BadInput("TF_CONFIG", rule, fix)
    return cluster


def node_addresses(job: str, nodes: int) -> tuple[str, ...]:
    """``host:port`` of each node of a TrainJob: names that its JobSet (replicated job ``node``) gives the pods."""
    return tuple(f"{job}-node-0-{index}.{job}:{PORT}" for index in range(nodes))


def tf_config(addresses: tuple[str, ...], index: int) -> str:
    """The text of ``TF_CONFIG`` for worker ``index``; the first worker is the chief."""
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})


def strategy_for(distribution: Distribution, environ: Mapping[str, str]) -> Any:
    """
    The ``tf.distribute`` strategy; to be made before TensorFlow runs its first operation.

    Raises:
        BadInput: ``TF_CONFIG`` does not fit, or the model is to be cut, which TensorFlow cannot.
    """
    import tensorflow as tf

    if distribution.kind == "multi_worker":
        read_cluster(environ)
        return tf.distribute.MultiWorkerMirroredStrategy()
    if distribution.kind == "mirrored":
        return tf.distribute.MirroredStrategy()
    if distribution.kind == "model_parallel":
        raise BadInput("distribution 'model_parallel'", "needs the JAX backend of Keras", "set KERAS_BACKEND=jax")
    return tf.distribute.get_strategy()


def keras_distribution(keras: Any, distribution: Distribution) -> Any:
    """
    The ``keras.distribution`` object for the JAX backend, or None for one device.

    Raises:
        BadInput: the devices cannot be divided so, or several processes are asked for.
    """
    if distribution.kind == "single":
        return None
    if distribution.kind == "multi_worker":
        raise BadInput("distribution 'multi_worker'", "needs the TensorFlow backend of Keras", "unset KERAS_BACKEND")
    devices = keras.distribution.list_devices()
    if distribution.kind == "mirrored":
        return keras.distribution.DataParallel(devices=devices)
    shards = distribution.model_shards
    if len(devices) % shards:
        raise BadInput("model_shards", f"{shards} do not divide {len(devices)} devices", "choose a divisor")
    mesh = keras.distribution.DeviceMesh((len(devices) // shards, shards), ("batch", "model"), devices)
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*hidden_.*kernel"] = (None, "model")
    layout[".*hidden_.*bias"] = ("model",)
    layout[".*logit.*kernel"] = ("model", None)
    return keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
