"""The offline gate as a step: judge, and write the documents down."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from sluice.content import digest_of_value, write_json
from sluice.documents.evaluation import Evaluation
from sluice.documents.verdict import Decision, Verdict, identify, unanimous
from sluice.gates.offline import judge
from sluice.release.snapshot import Snapshot
from sluice.steps.evaluate import DOCUMENTS, EVALUATION, INPUTS
from sluice.steps.repository import open_repository, without_repository
from sluice.steps.select import selected

DECISION = "decision.json"


def decide_offline(
    gitops: str, environment: str, now: str, run: str, policy: str, evaluation: Path, out: Path, record: str
) -> Decision:
    """
    Judge an evaluation by the policy at the branch's tip; without a repository by the policy's text.

    A PASS is written to ``out`` and committed later, with the release that it starts. Anything else is committed as a
    record at once, where there is a repository.

    Args:
        gitops: path or URL of the GitOps repository; empty for none.
        environment: whose policy judges.
        now: time of the run, ISO 8601 in UTC.
        run: the run, as JSON.
        policy: text of the policy that judges where there is no repository.
        evaluation: directory of the evaluation stage.
        out: receives ``decision.json``.
        record: folder that the run's documents are copied to; empty for nowhere.
    """
    if record:
        _keep_documents(evaluation, Path(record))
    result = Evaluation.model_validate_json((evaluation / EVALUATION).read_bytes())
    origin = _origin(json.loads(run), evaluation)
    if gitops:
        repository = open_repository(gitops, environment)
        decision = _decision(repository.snapshot(), result, origin, now)
        if decision.verdict is not Verdict.PASS:
            decision = repository.record(lambda snapshot: _decision(snapshot, result, origin, now))
    else:
        decision = _decision(without_repository(environment, policy), result, origin, now)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / DECISION, decision.model_dump(mode="json"))
    return decision


def refusal(decision: Decision) -> str:
    """By which rule a decision refuses its candidate; empty where it does not."""
    if decision.action != "refuse":
        return ""
    first = next((reason for reason in decision.reasons if reason.verdict is decision.verdict), None)
    why = f"{first.rule}: {first.text}" if first else decision.action
    return f"{decision.candidate or decision.run.get('name', 'the candidate')}: {decision.verdict} by rule {why}"


def decided(decision: Decision) -> str:
    """A decision in Markdown: what it says, and how each rule saw it."""
    about = f"`{decision.candidate or decision.run.get('name', '')}`, {decision.environment}, decision `{decision.id}`"
    return f"# {decision.verdict}: {decision.action}\n\n{about}\n\n{reason_list(decision)}\n"


def reason_list(decision: Decision) -> str:
    """How each rule saw it, a line each in Markdown."""
    return "\n".join(f"- {reason.verdict} {reason.rule}: {reason.text}" for reason in decision.reasons)


def read_decision(directory: Path) -> Decision:
    """The decision that an offline gate wrote."""
    return Decision.model_validate_json((directory / DECISION).read_bytes())


def _keep_documents(evaluation: Path, record: Path) -> None:
    """Copy the documents of all steps so far into the run's record, for the report."""
    record.mkdir(parents=True, exist_ok=True)
    for name in (*DOCUMENTS, INPUTS, EVALUATION):
        shutil.copyfile(evaluation / name, record / name)


def _origin(run: dict[str, Any], evaluation: Path) -> dict[str, Any]:
    digests = {name: digest_in(evaluation / file) for name, file in (("data", "span.json"), ("frame", "frame.json"))}
    return {**run, **digests, "variant": selected(evaluation)}


def digest_in(record: Path) -> str:
    """The digest that a step's record gives its output."""
    return str(json.loads(record.read_bytes())["digest"])


def _decision(snapshot: Snapshot, result: Evaluation, run: dict[str, Any], now: str) -> Decision:
    state = snapshot.state
    reasons = judge(result, snapshot.policy)
    evidence = result.model_dump(mode="json", exclude={"curves", "pictures"})
    evidence_digest = digest_of_value(evidence)
    verdict = unanimous(reason.verdict for reason in reasons)
    identity = [state.task, state.environment, run["id"], evidence_digest, snapshot.policy_digest]
    return Decision.between(
        state,
        state,
        evidence,
        id=identify("offline", identity),
        stage="offline",
        action="propose" if verdict is Verdict.PASS else "refuse",
        verdict=verdict,
        candidate=None,
        reasons=reasons,
        now=now,
        window=result.window,
        policy_digest=snapshot.policy_digest,
        run=run,
    )
