"""The Kubernetes API, by the kubernetes package: in a pod by its service account, elsewhere by KUBECONFIG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sluice_cluster.cluster import Document


class KubernetesCluster:
    """
    Reads what ``sluice_cluster.applied`` needs.

    Args:
        argocd: the namespace of Argo CD's Applications.
    """

    def __init__(self, argocd: str = "argocd") -> None:
        from kubernetes import client, config

        try:
            config.load_incluster_config()
        except config.ConfigException:
            config.load_kube_config()
        self._client = client.ApiClient()
        self._custom, self._core = client.CustomObjectsApi(self._client), client.CoreV1Api(self._client)
        self._argocd = argocd

    def application(self, name: str) -> Document:
        """An Argo CD Application."""
        args = ("argoproj.io", "v1alpha1", self._argocd, "applications", name)
        found: Document = self._custom.get_namespaced_custom_object(*args, _request_timeout=30)
        return found

    def routes(self, namespace: str) -> list[Document]:
        """The HTTPRoutes of a namespace."""
        args = ("gateway.networking.k8s.io", "v1", namespace, "httproutes")
        found: list[Document] = self._custom.list_namespaced_custom_object(*args, _request_timeout=30)["items"]
        return found

    def pods(self, namespace: str, service: str) -> list[Document]:
        """The pods of an InferenceService that are not being deleted."""
        selector = f"serving.kserve.io/inferenceservice={service}"
        listed = self._core.list_namespaced_pod(namespace, label_selector=selector, _request_timeout=30)
        pods: Any = self._client.sanitize_for_serialization(listed)["items"]
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def service(self, namespace: str, name: str) -> Document:
        """An InferenceService."""
        args = ("serving.kserve.io", "v1beta1", namespace, "inferenceservices", name)
        found: Document = self._custom.get_namespaced_custom_object(*args, _request_timeout=30)
        return found

    def revision(self, namespace: str, name: str) -> Document:
        """A Knative Revision."""
        args = ("serving.knative.dev", "v1", namespace, "revisions", name)
        found: Document = self._custom.get_namespaced_custom_object(*args, _request_timeout=30)
        return found
