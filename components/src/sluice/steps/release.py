"""Propose a bundle to an environment: one commit that starts its rollout, or that says why not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sluice.content import digest_of_value, write_json
from sluice.documents.verdict import Decision
from sluice.errors import BadInput
from sluice.gitops.writer import GitOps
from sluice.models.bundle import Bundle
from sluice.models.store import store_bundle
from sluice.rollout.advance import propose
from sluice.steps.gate import read_decision, reason_list
from sluice.steps.repository import open_repository

PROPOSAL = "proposal.json"


def propose_release(
    gitops: str, environment: str, now: str, bundle: Bundle, bundles: str, decision: Path, out: Path
) -> Decision | None:
    """
    Store the bundle, which the offline gate passed and the server served, and propose it.

    Args:
        gitops: path or URL of the GitOps repository; empty: nothing is proposed.
        environment: where to.
        now: time of the run, ISO 8601 in UTC.
        bundles: the store, a folder or URL; empty: the bundle is not stored.
        decision: directory of the offline gate's.
        out: receives ``proposal.json``.

    Returns:
        The proposal, or ``None`` without a repository.

    Raises:
        BadInput: a repository without a store, or one of them cannot be written.
    """
    if gitops and not bundles:
        raise BadInput(
            "bundles", "is empty, and a release names a bundle that servers fetch from there", "give a store"
        )
    if bundles:
        store_bundle(bundle, bundles, os.environ)
    if not gitops:
        return None
    gate = read_decision(decision)
    proposal = open_repository(gitops, environment).record(
        lambda snapshot: propose(snapshot, bundle.digest, gate.reasons, gate.evidence, gate.run, now)
    )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / PROPOSAL, proposal.model_dump(mode="json"))
    return proposal


def released(proposal: Decision, bundles: str) -> str:
    """What a proposal did, in Markdown."""
    where = f"`{proposal.candidate}` in `{bundles}`, {proposal.environment}, decision `{proposal.id}`"
    return f"# {proposal.action}\n\n{where}\n\n{reason_list(proposal)}\n"


def not_released(digest: str, bundles: str) -> str:
    """That nothing was released, in Markdown."""
    where = f"It is stored in `{bundles}`." if bundles else "It is the artifact `packed` of the step bundle."
    rule = "Parameter `gitops` is empty, so there is no repository to propose it to."
    return f"# Nothing was released\n\nBundle `{digest}` passed gate and server. {where} {rule}\n"


def keep_report(report: Path, record: Path) -> None:
    """Copy the documents of the server's validation to the run's others."""
    record.mkdir(parents=True, exist_ok=True)
    for document in sorted(report.glob("*.json")):
        shutil.copyfile(document, record / document.name)


def propose_again(gitops: GitOps, digest: str, name: str, now: str, kfp_run: str = "") -> Decision:
    """
    Propose a digest that was proposed before, on the evidence of then.

    Args:
        name, kfp_run: of this run, the second one KFP's id of it.
        now: time of this proposal.

    Raises:
        BadInput: it never was.
    """
    first = next((each for each in gitops.decisions() if each.candidate == digest and each.stage == "offline"), None)
    if first is None:
        raise BadInput(f"digest {digest}", "was never proposed here", "train it, or name another")
    before = {key: value for key, value in first.run.items() if key != "kfp_run"}
    run = {**before, "id": digest_of_value([name, digest])[7:19], "name": name, "again": first.id}
    run |= {"kfp_run": kfp_run} if kfp_run else {}
    return gitops.record(lambda snapshot: propose(snapshot, digest, first.reasons, first.evidence, run, now))
