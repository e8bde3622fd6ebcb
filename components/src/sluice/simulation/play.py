"""
One rollout of a policy, start to end, decided by the real ``advance``.

``advance`` is handed in: gates do not import the release side, and a test can hand in a broken one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

from sluice.documents.evidence import Evidence
from sluice.documents.state import ReleaseState
from sluice.gates.policy import GatePolicy
from sluice.simulation.counting import Road
from sluice.simulation.evidence import clock, evidence_of
from sluice.simulation.idle import Look, idle
from sluice.simulation.traffic import Traffic
from sluice.simulation.watch import Glance, Stretch, Watch, glance, share_of

STABLE, CANDIDATE = (f"sha256:{letter * 64}" for letter in "ac")
End = Literal["promoted", "rolled back", "timed out"]


class Advised(Protocol):
    """What is read of ``sluice.rollout.advance.Advice``."""

    @property
    def action(self) -> str:
        """wait, set-weight, promote, confirm, time-out, rollback."""

    @property
    def after(self) -> ReleaseState:
        """The next state."""


Decide = Callable[[ReleaseState, Evidence, GatePolicy, str], Advised]


class Outcome(NamedTuple):
    """How one rollout ended."""

    end: End
    stage: str
    """Where it ended."""
    held: bool
    """Whether the candidate's digest is held now."""
    requests: int
    """Live requests from the start to the end, whoever answered."""
    hours: float
    exposed: int
    """Requests that users got the candidate's answer to."""


def play(traffic: Traffic, policy: GatePolicy, decide: Decide, *, every_look: bool = False) -> Outcome:
    """
    Play one rollout from its first stage to its end; every stage has a deadline, so there is one.

    Args:
        every_look: ask ``decide`` at looks too at which surely nothing is decided (``idle``).
    """
    watch = Watch(traffic, policy.online.label_maturity_hours)
    state, hours, look = begun(policy), traffic.scale.look_hours, 0
    ended: list[Stretch] = []
    stage = Stretch(0, 0, _road(state, traffic))
    while state.rollout is not None:
        look += 1
        stage = stage._replace(end=look)
        earlier = [one for one in ended if not one.road.shadow] if state.stage == "confirm" else []
        found = glance(watch, stage, earlier, look)
        if not every_look and idle(_look(state, found, traffic, (look - stage.first) * hours), policy.online):
            continue
        evidence = evidence_of(state, watch, found, look)
        advice = decide(state, evidence, policy, clock(look * hours))
        if advice.action == "wait":
            continue
        before, state = state, advice.after
        ended.append(stage)
        stage = Stretch(look, look, _road(state, traffic))
    end: End = "timed out" if advice.action == "time-out" else "rolled back"
    if state.stable == CANDIDATE:
        end = "promoted"
    held = state.held(CANDIDATE) is not None
    exposed = sum(watch.exposed(one) for one in ended if not one.road.shadow)
    return Outcome(end, before.stage, held, traffic.requests(look), look * hours, exposed)


def unattended(policy: GatePolicy) -> GatePolicy:
    """The policy as it goes when every approval is given at once."""
    stages = {name: getattr(policy.online, name) for name in ("shadow", "canary", "blue_green", "confirm")}
    agreed = {name: stage.model_copy(update={"approval": False}) for name, stage in stages.items() if stage}
    return policy.model_copy(update={"online": policy.online.model_copy(update=agreed)})


def begun(policy: GatePolicy) -> ReleaseState:
    """The state that an accepted proposal leads to."""
    online = policy.online
    begins: dict[str, Any] = {"stage": "preview", "stable_weight": 100}
    if online.shadow:
        begins |= {"stage": "shadow", "mirror_percent": online.shadow.mirror_percent}
    elif online.canary:
        weight = online.canary.steps[0]
        begins = {"stage": "canary", "stable_weight": 100 - weight, "candidate_weight": weight}
    return ReleaseState(
        task=policy.task,
        environment=policy.environment,
        sequence=1,
        rollout="r0001-simulated",
        since=clock(0),
        stable=STABLE,
        candidate=CANDIDATE,
        **begins,
    )


def _look(state: ReleaseState, found: Glance, traffic: Traffic, hours: float) -> Look:
    return Look(
        stage=state.stage,
        weight=state.mirror_percent if state.stage == "shadow" else state.candidate_weight,
        hours=hours,
        tally=found.tally,
        strata=found.strata,
        bins=found.live.bins,
        slices=found.live.slices.sum(axis=0) if len(found.live.slices) else found.live.slices,
        mismatch=traffic.world.mismatch,
    )


def _road(state: ReleaseState, traffic: Traffic) -> Road:
    """Whether requests are mirrored, and the share that truly reaches the candidate."""
    shadow = state.stage == "shadow"
    return Road(shadow, share_of(traffic, state.mirror_percent if shadow else state.candidate_weight))
