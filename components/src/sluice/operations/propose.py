"""
A bundle that somebody has → a proposal: how a model gets into an environment without a pipeline's run.

It is judged as one of a run is: by the environment's offline rules, on an evaluation that is of this very bundle. That
is given, or made on the spot on a frame, or the one in the bundle's own card.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sluice.content import digest_of_value
from sluice.documents.evaluation import Evaluation
from sluice.documents.event_time import iso, moment_of
from sluice.documents.file import read_document
from sluice.documents.verdict import Decision
from sluice.errors import BadArtifact, BadInput, Refused
from sluice.evaluation.bundle import evaluate_bundle
from sluice.evaluation.card import evaluation_in_card
from sluice.gitops.writer import GitOps, Snapshot
from sluice.models.bundle import MANIFEST, Bundle, load_bundle
from sluice.models.store import read_bundle, store_bundle
from sluice.operations.operator import check_text
from sluice.operations.promote import Promotion, offline_reasons
from sluice.rollout.advance import propose
from sluice.rollout.message import short
from sluice.tasks.task import Task, load_task

EVALUATION = "evaluation.json"
_CARD = "card.json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SAME = ("model", "threshold", "window", "n", "positives", "metrics")
"""What an evaluation and the card of the bundle that it is about agree in."""
_FIXES = {
    "hold": "lift it with `sluice hold release`, or propose another",
    "one-rollout": "wait for its end; `sluice status` says what it waits for, and what ends it",
    "bootstrap": "set bootstrap.allowed in the policy",
    "freeze": "propose it afterwards",
}


@dataclass(frozen=True)
class EvaluationPlace:
    """
    Where the evaluation of a bundle comes from; with neither, it is beside the bundle's directory, or in its card.

    Attributes:
        record: file or directory of an ``evaluation.json``.
        frame: directory of the features step, on whose split test it is made now.
        task: what the bundle's task is loaded by then, where that is not its name.
    """

    record: Path | None = None
    frame: Path | None = None
    task: str | None = None

    def __post_init__(self) -> None:
        """Raises BadInput where both are given, or a task for nothing."""
        if self.record and self.frame:
            raise BadInput("--evaluation and --frame", "each give an evaluation", "leave out one of them")
        if self.task and not self.frame:
            raise BadInput("--task", "is of an evaluation that is made now", "give --frame, or leave it out")


def propose_bundle(gitops: GitOps, what: str, store: str, place: EvaluationPlace, by: str, now: str) -> Promotion:
    """
    Store a bundle, and propose it: one commit, which starts its rollout or says which offline rule it breaks.

    Asked again it finds its rollout going on, or that very refusal, and writes nothing.

    Args:
        what: directory of a bundle, or one that holds a single one; or the digest of one in the store.
        store: of bundles, a folder or URL, that servers fetch from.
        by, now: who proposes it, and when, ISO 8601.

    Raises:
        BadInput: one of them is not what it should be, the environment is about another task or not there, or no
            evaluation is of this bundle.
        BadArtifact: the bundle, a stored one, or the release file is damaged.
        Refused: a rule of the release forbids every proposal of it now, or the environment takes what another confirms.
        Unavailable: the store does not answer.
    """
    check_text("by", by)
    moment, bundle, outcome = iso(moment_of(now)), _bundle_of(what, store), [Promotion(None, "", forbidden=False)]
    first = gitops.snapshot()
    task, called = bundle.manifest.task, f"bundle {short(bundle.digest)}"
    check_environment(first, task, called)
    evaluation = _evaluation_of(bundle, what, place, first.state.stable, store)

    def decide(here: Snapshot) -> Decision | None:
        check_environment(here, task, called)
        if bundle.digest in (here.state.stable, here.state.candidate):
            where = "the stable model" if bundle.digest == here.state.stable else f"in {here.state.stage}"
            text = f"{short(bundle.digest)} is {where} in {here.state.environment} already"
            outcome[0] = Promotion(None, text, forbidden=False)
            return None
        return _proposal(here, gitops, bundle, evaluation, by, moment)

    planned = decide(first)
    if planned and planned.action != "refuse":
        store_bundle(bundle, store, os.environ)
    commit = gitops.commit(decide)
    return Promotion.of(commit.decision) if commit else outcome[0]


def _proposal(here: Snapshot, gitops: GitOps, bundle: Bundle, evaluation: Evaluation, by: str, now: str) -> Decision:
    evidence = evaluation.model_dump(mode="json", exclude={"curves"})
    reasons = offline_reasons(evaluation, here)
    decision = propose(here, bundle.digest, reasons, evidence, _origin(bundle, evidence, by), now)
    if decision.stage == "propose":
        (reason,) = decision.reasons
        thing = f"proposal of {short(bundle.digest)} in {here.state.environment}"
        raise Refused(thing, f"{reason.rule}: {reason.text}", _FIXES.get(reason.rule, "see `sluice status`"))
    return decision if decision.action != "refuse" else _told_before(here, gitops, decision) or decision


def _told_before(here: Snapshot, gitops: GitOps, refusal: Decision) -> Decision | None:
    """The same refusal by the same policy of the same evaluation, as it is on record."""
    about = gitops.trail(here.commit).about(gitops.environment, refusal.candidate)
    for _, _, earlier in gitops.records_of(list(about)):
        same = (earlier.policy_digest, earlier.evidence_digest) == (refusal.policy_digest, refusal.evidence_digest)
        if same and (earlier.action, earlier.reasons) == (refusal.action, refusal.reasons):
            return earlier
    return None


def _origin(bundle: Bundle, evidence: dict[str, Any], by: str) -> dict[str, Any]:
    """Where it comes from, in the words of a pipeline's run."""
    manifest = bundle.manifest
    identity = digest_of_value([bundle.digest, evidence])[7:19]
    made_of = manifest.provenance.model_dump(mode="json", exclude={"window"})
    named = {"id": identity, "name": manifest.recipe.name, "task": manifest.task, "variant": manifest.variant}
    return {**named, **made_of, "proposed_by": by}


def check_environment(here: Snapshot, task: str, bundle: str) -> None:
    """
    Accept an environment for bundles of a task; ``bundle`` is how messages call the one in question.

    Raises:
        BadInput: it is about another task.
        Refused: it takes only what another environment has confirmed.
    """
    policy = here.policy
    if policy.task != task:
        rule = f"is about task {policy.task!r}, and {bundle} is of {task!r}"
        raise BadInput(f"environment {policy.environment!r}", rule, "name an environment of the bundle's task")
    if policy.promote_from:
        rule = f"takes only what {policy.promote_from} has confirmed (promote_from in its policy)"
        fix = f"propose it there, then `sluice promote --env {policy.environment}`"
        raise Refused(f"environment {policy.environment!r}", rule, fix)


def check_store(store: str) -> None:
    """Raise BadInput where no store of bundles is named."""
    if not store:
        raise BadInput("--bundles", "is empty, and a release names a bundle that servers fetch from there", "give it")


def stable_bundle(digest: str | None, store: str) -> Bundle | None:
    """
    What serves, of its digest; ``None`` where nothing does.

    Raises:
        BadArtifact, BadInput, Unavailable: it is not in the store, damaged, or the store does not answer.
    """
    return read_bundle(store, digest, os.environ) if digest else None


def _bundle_of(what: str, store: str) -> Bundle:
    check_store(store)
    if _DIGEST.fullmatch(what):
        return read_bundle(store, what, os.environ)
    directory = Path(what)
    if not directory.is_dir():
        raise BadInput(what, "is neither a directory nor a digest, sha256:<64 hex digits>", "name one of the two")
    if (directory / MANIFEST).exists():
        return load_bundle(directory)
    inside = sorted(directory.glob("sha256-*"))
    if len(inside) != 1:
        rule = f"holds no {MANIFEST}, and {len(inside)} bundles sha256-…"
        raise BadInput(what, rule, "name the directory of one bundle")
    return load_bundle(inside[0])


def _evaluation_of(bundle: Bundle, what: str, place: EvaluationPlace, production: str | None, store: str) -> Evaluation:
    if place.frame:
        return evaluate_bundle(_task_of(bundle, place), place.frame, bundle, stable_bundle(production, store))
    beside = Path(what) / EVALUATION
    path = place.record or (beside if beside.is_file() else None)
    if path is None:
        return _in_card(bundle)
    path = path / EVALUATION if path.is_dir() else path
    evaluation = read_document(path, Evaluation, "the file that the step evaluate writes")
    for key, found, due in _contradictions(evaluation, bundle):
        rule = f"is {found}, of bundle {short(bundle.digest)} it is {due}"
        raise BadInput(f"{path}: {key}", rule, "give the evaluation of this very bundle, or a --frame")
    return evaluation


def _task_of(bundle: Bundle, place: EvaluationPlace) -> Task:
    task = load_task(place.task or bundle.manifest.task)
    if task.name != bundle.manifest.task:
        rule = f"is {task.name!r}, and bundle {short(bundle.digest)} is of {bundle.manifest.task!r}"
        raise BadInput("--task", rule, "name the bundle's task")
    return task


def _in_card(bundle: Bundle) -> Evaluation:
    thing = f"bundle {short(bundle.digest)}"
    if _CARD not in bundle.files:
        rule = f"has no evaluation: no {_CARD} is in it, and none was given"
        raise BadInput(thing, rule, "give --evaluation, or --frame to make one now")
    try:
        return evaluation_in_card(json.loads(bundle.files[_CARD]))
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        rule = "is not a card with an evaluation"
        raise BadArtifact(f"{thing}: {_CARD}", rule, "give --evaluation, or --frame to make one now") from error


def _contradictions(evaluation: Evaluation, bundle: Bundle) -> Iterator[tuple[str, str, str]]:
    """In what an evaluation is about another model than this: key, what it says, and what the bundle does."""
    manifest = bundle.manifest
    due: dict[str, Any] = {"model": manifest.variant, "threshold": manifest.threshold}
    if _CARD in bundle.files:
        due = {key: getattr(_in_card(bundle), key) for key in _SAME}
    for key, value in due.items():
        if (found := getattr(evaluation, key)) != value:
            yield (key, "another", "as its card says") if isinstance(value, dict) else (key, repr(found), repr(value))
