"""What the gate is told by its environment variables; see the option manifests/options/gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sluice.errors import BadInput
from sluice.git.command import KEY, KEY_FILES
from sluice.prometheus.api import PrometheusApi
from sluice.prometheus.source import PrometheusSource

_FIX = "see docs/gitops.md, and the option manifests/options/gate"
_SCRAPE_SECONDS = 30.0


@dataclass(frozen=True)
class Settings:
    """
    The settings of one environment's gate.

    Attributes:
        repository: URL of the GitOps repository: ssh, https or file.
        environment: which overlay; its Argo CD Application is ``sluice-<environment>``.
        namespace: where its servers run.
        argocd: the namespace of Argo CD's Applications.
        source: the Prometheus, which counts by digest: an HTTPRoute does not mark requests.
    """

    repository: str
    environment: str
    namespace: str
    argocd: str
    source: PrometheusSource

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Settings:
        """
        From environment variables. What git needs of them it reads itself: ``sluice.git.command.KEY``.

        Raises:
            BadInput: one is missing or wrong, or the deploy key is; names it, and shows nothing of a key.
        """
        repository = _repository(_required_variable(variables, "SLUICE_REPOSITORY"))
        if repository.startswith("ssh:"):
            _check_key(Path(_required_variable(variables, KEY)))
        namespace = _required_variable(variables, "SLUICE_NAMESPACE")
        return cls(
            repository=repository,
            environment=_required_variable(variables, "SLUICE_ENVIRONMENT"),
            namespace=namespace,
            argocd=variables.get("SLUICE_ARGOCD_NAMESPACE") or "argocd",
            source=_source(variables, namespace),
        )


def _required_variable(variables: Mapping[str, str], name: str) -> str:
    if value := variables.get(name):
        return value
    raise BadInput(f"environment variable {name}", "is not set", _FIX)


def _repository(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise BadInput("SLUICE_REPOSITORY", f"is no URL ({error})", _FIX) from error
    if parts.scheme not in {"ssh", "https", "file"}:
        fix = "write it like ssh://git@github.com/you/repository.git"
        raise BadInput("SLUICE_REPOSITORY", f"has scheme {parts.scheme!r}, not ssh, https or file", fix)
    if parts.password is not None or (parts.username and parts.scheme == "https"):
        raise BadInput("SLUICE_REPOSITORY", "carries credentials, which would end in logs", "use ssh and a deploy key")
    return url


def _check_key(folder: Path) -> None:
    """Says what ssh does not: it passes over an absent file, and calls a last line without end a libcrypto error."""
    for name in KEY_FILES:
        try:
            text = (folder / name).read_bytes()
        except OSError as error:
            fix = f"give the Secret release-repository both keys: {' and '.join(KEY_FILES)}"
            raise BadInput(str(folder / name), f"cannot be read ({error.strerror})", fix) from error
        cut = name == "ssh-privatekey" and not text.endswith(b"\n")
        if cut or not text.strip():
            rule = "has no line break at its end" if text.strip() else "is empty"
            raise BadInput(str(folder / name), rule, "see docs/gitops.md for how the Secret is made")


def _source(variables: Mapping[str, str], namespace: str) -> PrometheusSource:
    scrape = _seconds(variables, "SLUICE_PROMETHEUS_SCRAPE_SECONDS", _SCRAPE_SECONDS)
    return PrometheusSource(
        PrometheusApi.of_environment(variables),
        matchers=_matchers(variables.get("SLUICE_PROMETHEUS_MATCHERS", f"namespace={namespace}")),
        settle_seconds=2 * scrape,
        fresh_seconds=2 * scrape,
        joined=_yes(variables, "SLUICE_PROMETHEUS_JOINED"),
        marked=False,
    )


def _matchers(text: str) -> dict[str, str]:
    """``key=value,key=value``."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    if wrong := [key for key, _, value in pairs if not (key.isidentifier() and key.isascii() and value)]:
        rule = f"has {wrong[0]!r} where a label and its value belong"
        raise BadInput("SLUICE_PROMETHEUS_MATCHERS", rule, "write it like namespace=sluice-dev,cluster=west")
    return {key: value for key, _, value in pairs}


def _seconds(variables: Mapping[str, str], name: str, default: float) -> float:
    text = variables.get(name) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3600:
        raise BadInput(name, f"is {text!r}, not 1 to 3600", "write the interval at which Prometheus scrapes")
    return seconds


def _yes(variables: Mapping[str, str], name: str) -> bool:
    text = variables.get(name) or "true"
    if text not in {"true", "false"}:
        raise BadInput(name, f"is {text!r}", "write true or false")
    return text == "true"
