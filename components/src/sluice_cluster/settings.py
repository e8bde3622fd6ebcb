"""What the gate is told by its environment variables; see the option manifests/options/gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sluice.errors import BadInput
from sluice.evidence.source import EvidenceSource, source_of
from sluice.git.command import KEY, KEY_FILES

_FIX = "see docs/gitops.md, and the option manifests/options/gate"


@dataclass(frozen=True)
class Settings:
    """
    The settings of one environment's gate.

    Attributes:
        repository: URL of the GitOps repository: ssh, https or file.
        environment: which overlay; its Argo CD Application is ``sluice-<environment>``.
        namespace: where its servers run.
        argocd: the namespace of Argo CD's Applications.
        source: where evidence comes from; ``SLUICE_EVIDENCE_SOURCE`` names it.
    """

    repository: str
    environment: str
    namespace: str
    argocd: str
    source: EvidenceSource

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
        return cls(
            repository=repository,
            environment=_required_variable(variables, "SLUICE_ENVIRONMENT"),
            namespace=_required_variable(variables, "SLUICE_NAMESPACE"),
            argocd=variables.get("SLUICE_ARGOCD_NAMESPACE") or "argocd",
            source=source_of(variables),
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
