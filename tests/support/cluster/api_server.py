"""The API server under test, asked without kubectl, which starts anew and reads megabytes of schemas for each call."""

from __future__ import annotations

import json
from functools import cache

from kubernetes import config
from kubernetes.client import ApiException
from kubernetes.dynamic import DynamicClient

from tests.support.cluster.kubectl import Object, Refused

_STRICTLY = [("dryRun", "All"), ("fieldManager", "kubectl"), ("fieldValidation", "Strict"), ("force", "true")]
"""What ``kubectl apply --server-side --force-conflicts --validate=strict --dry-run=server`` asks for."""
_HEADERS = {"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"}


@cache
def _client() -> DynamicClient:
    return DynamicClient(config.new_client_from_config())


def accepted(objects: list[Object], namespace: str | None = None) -> int:
    """
    How many objects the API server accepts, strictly; nothing is kept.

    Raises:
        Refused: one is not accepted; the message is what the API server said.
    """
    for each in objects:
        _apply(each, namespace)
    return len(objects)


def _apply(each: Object, namespace: str | None) -> None:
    resource = _client().resources.get(api_version=each["apiVersion"], kind=each["kind"])
    path = resource.path(name=each["metadata"]["name"], namespace=each["metadata"].get("namespace", namespace))
    rest = {"query_params": _STRICTLY, "header_params": _HEADERS, "auth_settings": ["BearerToken"]}
    try:
        _client().client.call_api(path, "PATCH", body=each, **rest)
    except ApiException as error:
        raise Refused(json.loads(error.body)["message"]) from error


def allowed(specs: list[Object]) -> list[bool]:
    """What the API server says to ``SubjectAccessReview``s of these specs."""
    reviews = _client().resources.get(api_version="authorization.k8s.io/v1", kind="SubjectAccessReview")
    return [bool(reviews.create(body={"spec": spec}).status.allowed) for spec in specs]
