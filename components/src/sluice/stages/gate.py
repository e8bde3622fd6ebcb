"""The offline gate as a step: judge, write the documents down, and stop the pipeline unless it passes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from sluice.content import digest_of_value, write_json
from sluice.errors import Refused
from sluice.evaluation.document import Evaluation
from sluice.gates.offline import judge
from sluice.gates.verdict import Decision, Verdict, identify, overall
from sluice.release.gitops import GitOps, Snapshot
from sluice.stages.evaluate import EVALUATION, INPUTS, read_inputs
from sluice.stages.select import SELECTION, VARIANTS, selected

DECISION = "decision.json"


def decide_offline(
    gitops: str, environment: str, now: str, run: str, evaluation: Path, out: Path, record: Path
) -> Decision:
    """
    Judge an evaluation by the policy at the branch's tip.

    A PASS is written to ``out`` and committed later, with the release that it starts. Anything else is committed as a
    record at once.

    Args:
        gitops: path or URL of the GitOps repository.
        environment: whose policy judges.
        now: time of the run, ISO 8601 in UTC.
        run: the run, as JSON.
        evaluation: directory of the evaluation stage.
        out: receives ``decision.json``.
        record: folder that the run's documents are copied to.

    Raises:
        Refused: the verdict is FAIL or INCONCLUSIVE; the first such reason is named.
    """
    inputs = read_inputs(evaluation)
    keep_documents(inputs, evaluation, record)
    result = Evaluation.model_validate_json((evaluation / EVALUATION).read_bytes())
    origin = _origin(json.loads(run), inputs)
    repository = GitOps(gitops, environment)
    made = _decision(repository.snapshot(), result, origin, now)
    if made.verdict is not Verdict.PASS:
        written = repository.commit(lambda snapshot: _decision(snapshot, result, origin, now))
        made = written.decision if written else made
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / DECISION, made.model_dump(mode="json"))
    if made.verdict is not Verdict.PASS:
        first = next(reason for reason in made.reasons if reason.verdict is made.verdict)
        raise Refused(
            f"candidate {origin['name']}", f"{made.verdict} by rule {first.rule}: {first.text}", "see `sluice why`"
        )
    return made


def read_decision(directory: Path) -> Decision:
    """The decision that an offline gate wrote."""
    return Decision.model_validate_json((directory / DECISION).read_bytes())


def keep_documents(inputs: dict[str, Path], evaluation: Path, record: Path) -> None:
    """Copy the documents of all stages so far into the run's record, for the report."""
    record.mkdir(parents=True, exist_ok=True)
    documents = {
        "span.json": inputs["span"],
        "validation.json": inputs["report"],
        "frame.json": inputs["frame"],
        "history.json": inputs["teacher"],
        VARIANTS: inputs["selection"],
        SELECTION: inputs["selection"],
        EVALUATION: evaluation,
        INPUTS: evaluation,
    }
    for name, directory in documents.items():
        shutil.copyfile(directory / name, record / name)


def _origin(run: dict[str, Any], inputs: dict[str, Path]) -> dict[str, Any]:
    digests = {
        name: json.loads((inputs[folder] / file).read_bytes())["digest"]
        for name, folder, file in (("data", "span", "span.json"), ("frame", "frame", "frame.json"))
    }
    return {**run, **digests, "variant": selected(inputs["selection"])}


def _decision(snapshot: Snapshot, result: Evaluation, run: dict[str, Any], now: str) -> Decision:
    state = snapshot.state.model_dump(mode="json")
    reasons = judge(result, snapshot.policy)
    evidence = result.model_dump(mode="json", exclude={"curves"})
    evidence_digest = digest_of_value(evidence)
    verdict = overall(reasons)
    identity = [snapshot.state.task, snapshot.state.environment, run["id"], evidence_digest, snapshot.policy_digest]
    return Decision(
        id=identify("offline", identity),
        task=snapshot.state.task,
        environment=snapshot.state.environment,
        stage="offline",
        action="propose" if verdict is Verdict.PASS else "refuse",
        verdict=verdict,
        candidate=None,
        stable=snapshot.state.stable,
        reasons=reasons,
        now=now,
        window=result.window,
        evidence=evidence,
        evidence_digest=evidence_digest,
        policy_digest=snapshot.policy_digest,
        before=state,
        after=state,
        run=run,
    )
