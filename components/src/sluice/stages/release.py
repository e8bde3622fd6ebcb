"""Propose a bundle to an environment: one commit that starts its rollout, or that says why not."""

from __future__ import annotations

import shutil
from pathlib import Path

from sluice.content import digest_of_value, write_json
from sluice.errors import BadInput
from sluice.gates.verdict import Decision
from sluice.release.gitops import GitOps
from sluice.release.rollout import propose
from sluice.stages.gate import read_decision

PROPOSAL = "proposal.json"


def propose_release(
    gitops: str, environment: str, now: str, digest: str, decision: Path, report: Path, out: Path, record: Path
) -> Decision:
    """
    Propose the bundle with this digest, which the offline gate passed and the server served.

    Args:
        gitops: path or URL of the GitOps repository.
        environment: where to.
        now: time of the run, ISO 8601 in UTC.
        digest: the bundle.
        decision: directory of the offline gate's decision.
        report: directory of the server's validation.
        out: receives ``proposal.json``.
        record: folder that the run's documents are copied to.
    """
    judged = read_decision(decision)
    for document in sorted(report.glob("*.json")):
        shutil.copyfile(document, record / document.name)
    written = GitOps(gitops, environment).commit(
        lambda snapshot: propose(snapshot, digest, judged.reasons, judged.evidence, judged.run, now)
    )
    if written is None:
        raise AssertionError("a proposal is always recorded")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / PROPOSAL, written.decision.model_dump(mode="json"))
    return written.decision


def propose_again(gitops: GitOps, digest: str, name: str, now: str) -> Decision:
    """
    Propose a digest that was proposed before, on the evidence of then; ``now`` is the time of this proposal.

    Raises:
        BadInput: it never was.
    """
    earlier = [made for made in gitops.decisions() if made.candidate == digest and made.stage == "offline"]
    if not earlier:
        raise BadInput(f"digest {digest}", "was never proposed here", "train it, or name another")
    first = earlier[0]
    run = {**first.run, "id": digest_of_value([name, digest])[7:19], "name": name, "again": first.id}

    written = gitops.commit(lambda snapshot: propose(snapshot, digest, first.reasons, first.evidence, run, now))
    if written is None:
        raise AssertionError("a proposal is always recorded")
    return written.decision
