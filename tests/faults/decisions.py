"""Candidates whose truth is known, looked at every hour; and proposals that a rule forbids."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sluice.documents.event_time import iso
from sluice.documents.state import Hold, ReleaseState
from sluice.documents.verdict import Reason, Verdict
from sluice.gates.policy import GatePolicy, read_policy
from sluice.gitops.writer import Snapshot
from sluice.rollout.advance import propose
from sluice.simulation.play import play
from sluice.simulation.traffic import SimulatedTraffic
from sluice.simulation.worlds import TrafficScale, scale_of, worlds_named
from tests.faults import sample
from tests.faults.registry import SEED, Row, Trial

_SHIPPED = Path(__file__).parents[2] / "manifests" / "overlays" / "dev" / "gate-policy.yaml"
_REQUESTS_A_DAY = 900
_WORLDS: Mapping[str, tuple[str, ...]] = {
    "a worse candidate": ("worse", "much-worse", "late-worse"),
    "a failing candidate": ("errors",),
    "a broken traffic split": ("split",),
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
)
