"""A pipeline's step: a function that KFP ships into a pod of its own, and what the pod needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from kfp import dsl

from sluice_steps.image import image


class Size(NamedTuple):
    """Request and limit of each."""

    cpu: tuple[str, str]
    memory: tuple[str, str]


SMALL = Size(("250m", "1"), ("512Mi", "2Gi"))
MIDDLE = Size(("1", "2"), ("2Gi", "6Gi"))


@dataclass(frozen=True)
class Need:
    """
    Of one step.

    Attributes:
        retries: only where doing it again gives the same; a verdict is not asked for twice.
        cached: only where all inputs are content-addressed and the output follows from them.
        device: it trains, on accelerators where the pipeline has some.
        store: Secret and ConfigMap of the object store.
        repository: deploy key of the GitOps repository.
    """

    size: Size
    hours: float = 1
    retries: int = 0
    cached: bool = True
    device: bool = False
    store: bool = False
    repository: bool = False


@dataclass(frozen=True)
class PipelineStep:
    """The function as it is, for whoever calls it; KFP's component of it is made when a pipeline is."""

    function: Callable[..., Any]
    need: Need

    @property
    def name(self) -> str:
        """As people write it: ``build-features``."""
        return self.function.__name__.replace("_", "-")

    @cached_property
    def component(self) -> Any:
        """In the image of the steps, which has everything that it imports."""
        return dsl.component(self.function, base_image=image("steps"), install_kfp_package=False)

    def task(self, parameters: Mapping[str, Any], **inputs: Any) -> Any:
        """A task of the pipeline that is being built; an input that is not given is the parameter of its name."""
        values = {name: parameters[name] for name in self.component.component_spec.inputs if name in parameters}
        return self.component(**{**values, **inputs})


def step(need: Need) -> Callable[[Callable[..., Any]], PipelineStep]:
    """Make a step of a function. KFP ships its body alone, so it imports inside."""
    return lambda function: PipelineStep(function, need)
