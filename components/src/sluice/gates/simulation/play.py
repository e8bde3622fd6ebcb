"""
One rollout of a policy, start to end, decided by the real ``advance``.

``advance`` is handed in: gates do not import the release side, and a test can hand in a broken one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from sluice.gates.policy import GatePolicy
from sluice.gates.simulation.evidence import Watch, clock, evidence_of, share_of
from sluice.gates.simulation.traffic import Traffic
from sluice.monitoring.evidence import Evidence
from sluice.release.state import ReleaseState

STABLE, CANDIDATE = (f"sha256:{letter * 64}" for letter in "ac")
End = Literal["promoted", "rolled back", "timed out"]


class Advised(Protocol):
    """What is read of ``sluice.release.rollout.Advice``."""

    @property
    def action(self) -> str:
        """wait, set-weight, promote, confirm or rollback."""

    @property
    def after(self) -> ReleaseState:
        """The next state."""

    @property
    def verdict(self) -> str:
        """PASS, FAIL or INCONCLUSIVE."""


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


def play(traffic: Traffic, policy: GatePolicy, decide: Decide) -> Outcome:
    """Play one rollout from the start of its shadow to its end; every stage has a deadline, so there is one."""
    watch = Watch(traffic, policy.online.label_maturity_hours)
    state = begun(policy)
    roads: list[tuple[bool, float]] = []
    began, canary_began, exposed = 0, 0, 0
    while state.rollout is not None:
        roads.append(_road(state, traffic))
        now = len(roads) * traffic.scale.look_hours
        first = canary_began if state.stage == "confirm" else began
        tallies = [
            watch.tally(index, shadow=roads[index][0], share=roads[index][1], now=now)
            for index in range(first, len(roads))
        ]
        evidence = evidence_of(state, tallies[began - first :], tallies[: began - first], now)
        exposed += tallies[-1].candidate.n if state.stage != "shadow" else 0
        advice = decide(state, evidence, policy, clock(now))
        if advice.action == "wait":
            continue
        before, state, began = state, advice.after, len(roads)
        canary_began = began if before.stage == "shadow" else canary_began
    held = state.held(CANDIDATE) is not None
    return Outcome(_end(state, advice.verdict), before.stage, held, traffic.requests(len(roads)), now, exposed)


def begun(policy: GatePolicy) -> ReleaseState:
    """The state that an accepted proposal leads to."""
    return ReleaseState(
        task=policy.task,
        environment=policy.environment,
        sequence=1,
        rollout="r0001-simulated",
        stage="shadow",
        since=clock(0),
        stable=STABLE,
        candidate=CANDIDATE,
        stable_weight=100,
        mirror_percent=policy.online.shadow.mirror_percent,
    )


def _road(state: ReleaseState, traffic: Traffic) -> tuple[bool, float]:
    """Whether requests are mirrored, and the share that truly reaches the candidate."""
    shadow = state.stage == "shadow"
    return shadow, share_of(traffic, state.mirror_percent if shadow else state.candidate_weight)


def _end(state: ReleaseState, verdict: str) -> End:
    if state.stable == CANDIDATE:
        return "promoted"
    return "rolled back" if verdict == "FAIL" else "timed out"
