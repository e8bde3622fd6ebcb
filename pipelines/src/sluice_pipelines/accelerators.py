"""
The accelerators that steps may ask for: the one place that says which there are, how many of each a step may have, and
which nodes have them. What is not listed is refused when a pipeline is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from sluice.errors import BadInput


class Toleration(BaseModel):
    """A taint that a step's pod may ignore."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    operator: str = Field(default="Exists", pattern=r"^(Exists|Equal)$")
    value: str | None = None
    effect: str = Field(default="NoSchedule", pattern=r"^(NoSchedule|NoExecute|PreferNoSchedule)$")


class Accelerator(BaseModel):
    """One kind of device. Quantities are Kubernetes' (``4``, ``16Gi``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resource: str = Field(pattern=r"^[a-z0-9.-]+/[a-z0-9.-]+$")
    """Name of the extended resource."""
    maximum: int = Field(ge=1, le=16)
    """The most that one step may ask for."""
    node_selector: dict[str, str] = Field(min_length=1)
    tolerations: tuple[Toleration, ...] = Field(min_length=1)
    shared_memory: str = "2Gi"
    """``/dev/shm``, which NCCL exchanges gradients through; it counts towards the step's memory."""
    cpu: str = "4"
    memory: str = "16Gi"


_NVIDIA = Toleration(key="nvidia.com/gpu")
ALLOWED: Mapping[str, Accelerator] = {
    # NVIDIA's GPU operator labels every node with a device so.
    "nvidia": Accelerator(
        resource="nvidia.com/gpu",
        maximum=8,
        node_selector={"nvidia.com/gpu.present": "true"},
        tolerations=(_NVIDIA,),
    ),
    "nvidia-l4": Accelerator(
        resource="nvidia.com/gpu",
        maximum=8,
        node_selector={"cloud.google.com/gke-accelerator": "nvidia-l4"},
        tolerations=(_NVIDIA,),
    ),
    "nvidia-h100": Accelerator(
        resource="nvidia.com/gpu",
        maximum=8,
        node_selector={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
        tolerations=(_NVIDIA,),
        shared_memory="8Gi",
        cpu="16",
        memory="64Gi",
    ),
}


class Devices(BaseModel):
    """So many of one accelerator, for each step that trains."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    accelerator: Accelerator
    count: int


def devices(name: str, count: int = 1) -> Devices:
    """
    Ask for accelerators.

    Raises:
        BadInput: the kind is not listed, or a step may not have so many.
    """
    if name not in ALLOWED:
        fix = f"choose one of {', '.join(ALLOWED)}, or list it in pipelines/src/sluice_pipelines/accelerators.py"
        raise BadInput(f"accelerator {name!r}", "is not allowed", fix)
    if not 1 <= count <= ALLOWED[name].maximum:
        rule = f"a step may have 1 to {ALLOWED[name].maximum}, got {count}"
        raise BadInput(f"accelerator {name!r}", rule, "ask for fewer, or train over several nodes")
    return Devices(name=name, accelerator=ALLOWED[name], count=count)
