"""Candidates whose truth is known, looked at every hour; and proposals that a rule forbids."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from sluice.documents.event_time import iso
from sluice.documents.state import Hold, ReleaseState
from sluice.documents.verdict import Reason, Verdict
from sluice.errors import BadInput, Refused
from sluice.gates.policy import GatePolicy, parse_policy, read_policy
from sluice.gitops.writer import GitOps, Snapshot
from sluice.operations.operator import break_the_glass, release_hold, roll_back
from sluice.rollout.advance import propose
from sluice.simulation.play import play
from sluice.simulation.traffic import SimulatedTraffic
from sluice.simulation.worlds import TrafficScale, scale_of, worlds_named
from tests.faults import sample
from tests.faults.history import reference
from tests.faults.registry import SEED, Row, Trial

_SHIPPED = Path(__file__).parents[2] / "manifests" / "overlays" / "dev" / "gate-policy.yaml"
_REQUESTS_A_DAY = 900
_WORLDS: Mapping[str, tuple[str, ...]] = {
    "a worse candidate": ("worse", "much-worse", "late-worse"),
    "a worse candidate on days that share a shock": ("stormy-at-margin", "stormy-worse"),
    "a failing candidate": ("errors", "failing"),
    "a refusing candidate": ("refuses",),
    "a broken traffic split": ("split",),
    "an outage each day, of the candidate or of both sides": ("outage", "outage-of-both"),
    "an equal or better candidate": ("equal", "better", "drifting", "bursty", "late-labels"),
}
_HOLDS = {"bad": "never promoted", "road": "never promoted", "good": "never rolled back by a FAIL"}


@cache
def _shipped() -> tuple[GatePolicy, TrafficScale]:
    policy, _ = read_policy(_SHIPPED)
    return policy, scale_of(policy, _REQUESTS_A_DAY, look_hours=1)


def simulated(_: Path, name: str, number: int) -> Trial:
    """One rollout of the shipped policy in a world of the simulator, looked at every hour."""
    (world,) = worlds_named((name,))
    policy, scale = _shipped()
    outcome = play(SimulatedTraffic(world, scale, SEED, number), policy)
    wrong = int(outcome.end == "promoted" and world.truth != "good")
    survived = outcome.end != "rolled back" or world.truth != "good"
    said = f"{name} {number}: {outcome.end} in {outcome.stage}" if wrong or not survived else ""
    fired = outcome.requests > 0
    return Trial(fired, survived, wrong=wrong, inconclusive=outcome.end == "timed out", said=said)


def _snapshot(state: ReleaseState) -> Snapshot:
    return Snapshot("0" * 40, state, sample.policy(), "sha256:" + "9" * 64)


def _between_rollouts(stable: str | None, holds: tuple[Hold, ...] = ()) -> ReleaseState:
    empty = ReleaseState.empty(sample.TASK, sample.ENVIRONMENT)
    return empty.settled(stable, iso(sample.BEGIN), holds).model_copy(update={"sequence": 7})


def _unsure() -> tuple[Reason, ...]:
    return (sample.PASSED[0].model_copy(update={"verdict": Verdict.INCONCLUSIVE}),)


def _forbidden(name: str, chance: random.Random) -> tuple[Snapshot, str, tuple[Reason, ...], str]:
    """What is proposed where, and the rule that must refuse it."""
    stable, candidate = sample.digest("a"), sample.digest("b")
    hold = Hold(digest=candidate, reason="broke", by="kim", at=iso(sample.BEGIN))
    calm = _snapshot(_between_rollouts(stable))
    if name == "a held digest":
        return _snapshot(_between_rollouts(stable, (hold,))), candidate, sample.PASSED, "hold"
    if name == "a second rollout":
        going_on = sample.state_in(chance.choice(sample.PHASES), sample.BEGIN)
        return _snapshot(going_on), sample.digest("c"), sample.PASSED, "one-rollout"
    if name == "the stable digest":
        return calm, stable, sample.PASSED, "already-stable"
    if name == "a first model that the policy forbids":
        strict = sample.policy().model_copy(update={"bootstrap": type(sample.policy().bootstrap)(allowed=False)})
        empty = _snapshot(_between_rollouts(None))
        return Snapshot(empty.commit, empty.state, strict, empty.policy_digest), candidate, sample.PASSED, "bootstrap"
    reasons = {"what failed offline": sample.FAILED, "what is unclear offline": _unsure(), "what was not asked": ()}
    return calm, candidate, reasons[name], "auc"


_PROPOSALS = (
    "a held digest",
    "a second rollout",
    "the stable digest",
    "a first model that the policy forbids",
    "what failed offline",
    "what is unclear offline",
    "what was not asked",
)


def forbidden_proposal(_: Path, name: str, number: int) -> Trial:
    """A proposal that must be refused and recorded, and change nothing."""
    chance = random.Random(f"{SEED} {name} {number}")  # noqa: S311
    snapshot, candidate, reasons, rule = _forbidden(name, chance)
    made = propose(snapshot, candidate, reasons, {"auc": chance.random()}, {"id": str(number)}, iso(sample.BEGIN))
    wrong = int(made.action != "refuse" or made.before != made.after)
    named = not made.reasons or rule in [reason.rule for reason in made.reasons]
    said = f"{name}: {made.action}" if wrong or not named else ""
    return Trial(fired=True, survived=named, wrong=wrong, said=said)


_PEOPLE: Mapping[str, Callable[[GitOps, str], object]] = {
    "sluice rollback": lambda gitops, now: roll_back(gitops, "worse too", "kim", now),
    "with Git down": lambda gitops, now: break_the_glass(gitops, "worse too", "kim", now),
}


def second_rollback(directory: Path, way: str) -> Trial:
    """After b was rolled back and its hold lifted: there is nothing good to go back to from a."""
    gitops = reference(directory).copy(2, directory / "home").gitops
    b, now = sample.digest("b"), iso(sample.BEGIN + timedelta(hours=8))
    roll_back(gitops, "worse", "kim", now)
    release_hold(gitops, b, "to be tried again", "kim", now)
    try:
        _PEOPLE[way](gitops, now)
        refused = False
    except Refused:
        refused = True
    stable = gitops.serving_snapshot().state.stable
    fired = [made.action for made in gitops.decisions()][-2:] == ["rollback", "release-hold"] or not refused
    return Trial(fired, refused, wrong=int(stable == b), said="" if refused else f"{way}: {stable} is stable")


_ENDLESS = {
    "log loss": "*loss, {metric: log_loss, role: success, margin: 0.5, minimum_n: 3000}",
    "errors": "*loss, {metric: error_rate, role: guardrail, margin: 0.1}",
    "latency": "*loss, *latency",
}


def endless_confirm(_: Path, name: str) -> Trial:
    """A confirm that compares with a stable side that answers nothing, on more than its canary must have seen."""
    text = sample.POLICY_TEXT.replace(
        b"*parity, *loss, {metric: label", f"*parity, {_ENDLESS[name]}, {{metric: label".encode()
    )
    try:
        parse_policy(text, "policy")
        said = "it was read"
    except BadInput as error:
        said = "" if "holdback" in error.fix else str(error)
    kept = parse_policy(text.replace(b"  confirm:\n", b"  confirm:\n    holdback: 5\n"), "policy")
    return Trial(text != sample.POLICY_TEXT, not said and kept.online.confirm.holdback == 5, said=said)


def _played(names: tuple[str, ...], short: int) -> Callable[[bool], list[tuple[Any, ...]]]:
    return lambda full: [(name, number) for name in names for number in range(100 if full else short)]


def _row(name: str, names: tuple[str, ...]) -> Row:
    truth = worlds_named(names)[0].truth
    return Row(
        f"decisions: {name}", "decisions", _HOLDS[truth], _played(names, 4 if truth == "good" else 12), simulated
    )


ROWS = (
    *(_row(name, names) for name, names in _WORLDS.items()),
    Row(
        "decisions: forbidden proposals",
        "decisions",
        "refused with the rule's name, nothing changes",
        lambda full: [(name, number) for name in _PROPOSALS for number in range(20 if full else 3)],
        forbidden_proposal,
    ),
    Row(
        "decisions: a rollback after a hold was lifted",
        "decisions",
        "goes back to no model that a rollback left",
        lambda _: [(way,) for way in _PEOPLE],
        second_rollback,
    ),
    Row(
        "decisions: a confirm that could not end",
        "decisions",
        "refused with the reason when the policy is read, or stable keeps a share",
        lambda _: [(name,) for name in _ENDLESS],
        endless_confirm,
    ),
)
