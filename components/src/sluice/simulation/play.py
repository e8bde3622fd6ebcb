"""One rollout of a policy, start to end, decided by the real ``advance``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from sluice.documents.evidence import Evidence
from sluice.documents.state import ReleaseState
from sluice.evidence.minutes import candidate_counts
from sluice.gates.block_length import BlockLength
from sluice.gates.policy import GatePolicy
from sluice.rollout.advance import Advice, advance, start
from sluice.simulation.blocks import LossBlocks, block_table
from sluice.simulation.counting import Road
from sluice.simulation.evidence import clock, evidence_of
from sluice.simulation.idle import Look, idle
from sluice.simulation.traffic import SimulatedTraffic
from sluice.simulation.watch import Glance, Stretch, Watch, glance, share_of
from sluice.stages.preview import PREVIEW
from sluice.stages.registry import STAGES

STABLE, CANDIDATE = (f"sha256:{letter * 64}" for letter in "ac")
Decide = Callable[[ReleaseState, Evidence, GatePolicy, str], Advice]
End = Literal["promoted", "rolled back", "timed out"]


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


def play(
    traffic: SimulatedTraffic, policy: GatePolicy, decide: Decide = advance, *, every_look: bool = False
) -> Outcome:
    """
    Play one rollout from its first stage to its end; every stage has a deadline, so there is one.

    Args:
        decide: in place of ``advance``: a broken one.
        every_look: ask ``decide`` at looks too at which surely nothing is decided (``idle``).
    """
    watch, blocks = Watch(traffic, policy.online.label_maturity_hours), LossBlocks.of(traffic, policy.online, STABLE)
    state, hours, look = first_state(policy, blocks.length), traffic.scale.look_hours, 0
    stretches: list[Stretch] = []
    stage = Stretch(0, 0, _road(state, traffic))
    while state.rollout is not None:
        look += 1
        stage = stage._replace(end=look)
        earlier = [one for one in stretches if not one.road.shadow] if STAGES[state.stage].whole_rollout else []
        view = glance(watch, stage, earlier, look)
        if not every_look and idle(_look(state, view, traffic, look, blocks), policy.online):
            continue
        evidence = evidence_of(state, watch, view, look, blocks)
        advice = decide(state, evidence, policy, clock(look * hours))
        if advice.action == "wait":
            continue
        before, state = state, advice.after
        stretches.append(stage)
        stage = Stretch(look, look, _road(state, traffic))
    end: End = "timed out" if advice.action == "time-out" else "rolled back"
    if state.stable == CANDIDATE:
        end = "promoted"
    held = state.held(CANDIDATE) is not None
    exposed = sum(watch.exposed(one) for one in stretches if not one.road.shadow)
    return Outcome(end, before.stage, held, traffic.requests(look), look * hours, exposed)


def unattended(policy: GatePolicy) -> GatePolicy:
    """The policy as it goes when every approval is given at once, and a preview answers its checks well."""
    agreed = {key: one.model_copy(update={"approval": False}) for key, one in policy.online.sections.items()}
    if policy.online.blue_green:
        agreed[str(PREVIEW.section)] = agreed[str(PREVIEW.section)].model_copy(update={"rules": ()})
    return policy.model_copy(update={"online": policy.online.model_copy(update=agreed)})


def first_state(policy: GatePolicy, length: BlockLength | None = None) -> ReleaseState:
    """The state that an accepted proposal leads to, where a model is stable."""
    empty = ReleaseState.empty(policy.task, policy.environment)
    stable = empty.settled(STABLE, clock(0), ()).model_copy(update={"sequence": 0})
    return start(stable, CANDIDATE, policy, clock(0), length)[1]


def _look(state: ReleaseState, view: Glance, traffic: SimulatedTraffic, look: int, blocks: LossBlocks) -> Look:
    first, hours = view.live.numbers.start, traffic.scale.look_hours
    return Look(
        stage=state.stage,
        weight=state.candidate_share,
        mirrored=state.is_mirrored,
        hours=(look - first) * hours,
        tally=view.tally,
        strata=view.strata,
        bins=view.live.bins,
        slices=view.live.slices.sum(axis=0) if len(view.live.slices) else view.live.slices,
        mismatch=traffic.world.mismatch,
        minutes=candidate_counts(view.minutes),
        blocks=block_table(view, first, blocks.windows, mirrored=state.is_mirrored) if blocks.history else None,
        history=blocks.history,
    )


def _road(state: ReleaseState, traffic: SimulatedTraffic) -> Road:
    """Whether requests are mirrored, and the share that truly reaches the candidate."""
    return Road(state.is_mirrored, share_of(traffic, state.candidate_share))
