"""The Kubernetes API, by the kubernetes package: in a pod by its service account, elsewhere by KUBECONFIG."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sluice.errors import BadInput
from sluice_cluster.cluster import NotApplied, Resource

_MEMORY = "gate-seen"
_REFRESH = {"argocd.argoproj.io/refresh": "normal"}
_SECONDS = (5, 15)
"""To connect, and to answer."""


class KubernetesCluster:
    """
    Reads what ``sluice_cluster.applied`` needs, and keeps what ``sluice_cluster.memory`` remembers.

    Args:
        argocd: the namespace of Argo CD's Applications.

    Raises:
        BadInput: neither a pod's service account nor a KUBECONFIG says which cluster.
        NotApplied: from every method, when the API server does not answer.
    """

    def __init__(self, argocd: str = "argocd") -> None:
        from kubernetes import client, config

        try:
            config.load_incluster_config()
        except config.ConfigException:
            try:
                config.load_kube_config()
            except config.ConfigException as error:
                raise BadInput("KUBECONFIG", f"names no cluster ({error})", "set it, or run in a pod") from error
        configuration = client.Configuration.get_default_copy()
        configuration.retries = False  # who reads asks again itself
        self._client = client.ApiClient(configuration)
        self._custom, self._core = client.CustomObjectsApi(self._client), client.CoreV1Api(self._client)
        self._apps = client.AppsV1Api(self._client)
        self._argocd = argocd

    def application(self, name: str) -> Resource:
        """An Argo CD Application."""
        return self._resource("argoproj.io", "v1alpha1", self._argocd, "applications", name)

    def refresh(self, name: str) -> None:
        """Ask Argo CD to compare an Application now; the annotation is all that this may change of one."""
        place = ("argoproj.io", "v1alpha1", self._argocd, "applications", name)
        _ask(self._custom.patch_namespaced_custom_object, *place, body={"metadata": {"annotations": _REFRESH}})

    def routes(self, namespace: str) -> list[Resource]:
        """The HTTPRoutes of a namespace."""
        args = ("gateway.networking.k8s.io", "v1", namespace, "httproutes")
        documents: list[Resource] = _ask(self._custom.list_namespaced_custom_object, *args)["items"]
        return documents

    def pods(self, namespace: str, service: str) -> list[Resource]:
        """The pods of an InferenceService that are not being deleted."""
        pods = self.labelled(namespace, f"serving.kserve.io/inferenceservice={service}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def labelled(self, namespace: str, selector: str) -> list[Resource]:
        """The pods that a selector of labels chooses."""
        listed = _ask(self._core.list_namespaced_pod, namespace, label_selector=selector)
        pods: list[Resource] = self._client.sanitize_for_serialization(listed)["items"]
        return pods

    def deployment(self, namespace: str, name: str) -> Resource | None:
        """A Deployment, or ``None`` where there is none."""
        answer = _ask(_unless_absent(self._apps.read_namespaced_deployment), name, namespace)
        deployment: Resource | None = self._client.sanitize_for_serialization(answer)
        return deployment

    def service(self, namespace: str, name: str) -> Resource:
        """An InferenceService."""
        return self._resource("serving.kserve.io", "v1beta1", namespace, "inferenceservices", name)

    def revision(self, namespace: str, name: str) -> Resource:
        """A Knative Revision."""
        return self._resource("serving.knative.dev", "v1", namespace, "revisions", name)

    def _resource(self, *place: str) -> Resource:
        """One of a custom kind: group, version, namespace, plural, name."""
        resource: Resource = _ask(self._custom.get_namespaced_custom_object, *place)
        return resource

    def recall(self, namespace: str) -> str | None:
        """The commit in the ConfigMap ``gate-seen``; ``None`` before the first look."""
        answer = _ask(self._core.read_namespaced_config_map, _MEMORY, namespace)
        commit: str | None = (answer.data or {}).get("commit")
        return commit

    def remember(self, namespace: str, commit: str) -> None:
        """Write a commit there."""
        _ask(self._core.patch_namespaced_config_map, _MEMORY, namespace, body={"data": {"commit": commit}})


def _unless_absent(ask: Callable[..., Any]) -> Callable[..., Any]:
    """The same question; ``None`` answers it where there is no such object."""
    from kubernetes.client.exceptions import ApiException

    def ask_or_none(*args: str, **options: Any) -> Any:
        try:
            return ask(*args, **options)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    return ask_or_none


def _ask(ask: Callable[..., Any], *args: str, **options: Any) -> Any:
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    what = "/".join(args)
    try:
        return ask(*args, **options, _request_timeout=_SECONDS)
    except ApiException as error:
        fix = "see the Roles of manifests/argocd and options/gate" if error.status in (401, 403) else "wait, or see it"
        raise NotApplied("the API server", f"answers {error.status} {error.reason} about {what}", fix) from error
    except HTTPError as error:
        raise NotApplied("the API server", f"does not answer about {what} ({type(error).__name__})", "wait") from error
