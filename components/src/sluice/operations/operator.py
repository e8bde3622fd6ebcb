"""What a person may do: go back, hold a digest, lift a hold. Each is one commit with a name and a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sluice.documents.state import Applied, Hold, ReleaseState
from sluice.documents.verdict import Decision, Reason, Verdict, identify
from sluice.errors import BadInput, Refused
from sluice.git.clone import HistoryRewrittenError
from sluice.git.command import COMMIT_ID
from sluice.gitops.break_glass import NO_EARLIER, BreakGlass, break_glass
from sluice.gitops.writer import GitOps, Snapshot
from sluice.operations.good_models import earlier_models
from sluice.operations.why import run_of
from sluice.rollout.advance import back
from sluice.rollout.drain import DRAIN, HOUSEKEEPING
from sluice.rollout.effect import judge_effect

_LONGEST = 500
StateChange = Callable[[Snapshot], tuple[str | None, ReleaseState]]
"""From what is to the digest that it is about and what shall be."""
_OF_A_RUN = ("rollback", "approve")


def roll_back(gitops: GitOps, reason: str, by: str, now: str) -> Decision:
    """
    Restore the last good side, and hold what is left.

    While a rollout is going on, that is its stable model. Else it is the one that served last of those that were
    confirmed, are not held, and were never left by a rollback since.

    Raises:
        BadInput: the reason is empty, too long or not plain text.
        Refused: nothing is served, or there is no earlier model to go back to.
    """

    def change(snapshot: Snapshot) -> tuple[str | None, ReleaseState]:
        state = snapshot.state
        if state.candidate:
            return state.candidate, back(state, now, reason, by)
        if not state.stable:
            raise Refused(f"rollback in {state.environment}", "nothing is served", "propose a model first")
        earlier = next(iter(earlier_models(gitops, snapshot)), None)
        if earlier is None:
            raise Refused(f"rollback in {state.environment}", NO_EARLIER, "propose another")
        hold = Hold(digest=state.stable, reason=reason, by=by, at=now)
        return state.stable, state.settled(earlier, now, (*state.holds, hold))

    return commit_word(gitops, "rollback", "rollback", change, {"reason": reason, "by": by, "now": now})


def break_the_glass(gitops: GitOps, reason: str, by: str, now: str) -> BreakGlass:
    """
    Roll back here and now from what was last seen of Git, which need not be there: a record on disk that everything
    on this machine obeys, and that the next writer that reaches Git turns into a commit.

    Args:
        gitops: with a ``patience_s`` of seconds: Git is asked first, since what was seen here may be old.

    Raises:
        BadInput: the reason is not plain text, or nothing was ever seen of Git here.
        Refused: as ``roll_back``, or such a record stands already.
    """
    for name, text in (("reason", reason), ("by", by)):
        check_text(name, text)
    with gitops.without_policy():
        known = gitops.last_known(ask=True)
    about = known.state.candidate or known.state.stable
    run, earlier = run_of(gitops, gitops.trail(known.commit), about), earlier_models(gitops, known)
    record = break_glass(known.state, known.commit, earlier, run, reason=reason, by=by, at=now)
    gitops.glass.write(record)
    return record


def settle(gitops: GitOps, applied: Applied, reason: str, by: str, now: str) -> Decision:
    """
    Take the server of a rollout that is over away, as a gate would; for environments that no gate looks at.

    Args:
        applied: what was read back: the route names stable alone, and stable serves what it should.

    Raises:
        BadInput: the reason is not plain text.
        Refused: no such server runs, or requests may still be sent to it.
    """

    def change(snapshot: Snapshot) -> tuple[str | None, ReleaseState]:
        state, thing = snapshot.state, f"settle in {gitops.environment}"
        if state.leftover is None:
            raise Refused(thing, "no server of a rollout that is over runs", "see `sluice status`")
        effect = judge_effect(state, applied)
        if effect.verdict is not Verdict.PASS:
            raise Refused(thing, effect.text, "bring about what Git says (`sluice apply`), then again")
        return state.leftover, state.drained(now)

    evidence = {"applied": applied.model_dump(mode="json"), "reason": reason, "by": by, "now": now}
    return commit_word(gitops, DRAIN, HOUSEKEEPING, change, evidence)


def accept_history(gitops: GitOps, reason: str, by: str, now: str, given_up: str | None = None) -> Decision:
    """
    Go on with a history that was rewritten; the ledger says who took it, and which commit was given up.

    Args:
        given_up: the newest commit that somebody else saw, who refuses what is there now: the gate of a cluster.

    Raises:
        BadInput: that is no commit's id, or the reason is no short line.
        Refused: it was not rewritten.
    """
    for name, text in (("reason", reason), ("by", by)):
        check_text(name, text)
    if given_up is not None and not COMMIT_ID.fullmatch(given_up):
        raise BadInput(f"commit {given_up!r}", "is no commit's whole id", "copy it from the gate's message")
    try:
        tip = gitops.snapshot().commit
    except HistoryRewrittenError:
        former_tip, tip = gitops.accept()
    else:
        if given_up is None:
            rule, fix = "the history was not rewritten since it was last seen here", "name what another saw: --given-up"
            raise Refused("ledger accept", rule, fix)
        former_tip = None
    if given_up and gitops.has(given_up):
        raise Refused("ledger accept", f"{given_up} is in the history", "nothing to do")
    former_tip = given_up or former_tip
    evidence = {"given_up": former_tip, "accepted": tip, "reason": reason, "by": by, "now": now}
    return commit_word(gitops, "ledger", "accept-history", lambda snapshot: (None, snapshot.state), evidence)


def add_hold(gitops: GitOps, digest: str, reason: str, by: str, now: str) -> Decision:
    """
    Hold a digest that is not being served.

    Raises:
        Refused: it is held already, or it is served (roll back instead).
    """

    def change(snapshot: Snapshot) -> tuple[str | None, ReleaseState]:
        state = snapshot.state
        if state.held(digest):
            raise Refused(f"digest {digest}", "is held already", "see `sluice hold list`")
        if digest in (state.stable, state.candidate):
            raise Refused(f"digest {digest}", "is being served", "use `sluice rollback`, which holds it too")
        hold = Hold(digest=_valid_digest(digest), reason=reason, by=by, at=now)
        return digest, _with_holds(state, (*state.holds, hold))

    return commit_word(gitops, "hold", "hold", change, {"digest": digest, "reason": reason, "by": by, "now": now})


def release_hold(gitops: GitOps, digest: str, reason: str, by: str, now: str) -> Decision:
    """
    Lift the hold on a digest.

    Raises:
        Refused: it is not held.
    """

    def change(snapshot: Snapshot) -> tuple[str | None, ReleaseState]:
        state = snapshot.state
        if not state.held(digest):
            raise Refused(f"digest {digest}", "is not held", "see `sluice hold list`")
        return digest, _with_holds(state, tuple(hold for hold in state.holds if hold.digest != digest))

    return commit_word(
        gitops, "hold", "release-hold", change, {"digest": digest, "reason": reason, "by": by, "now": now}
    )


def commit_word(gitops: GitOps, stage: str, action: str, change: StateChange, evidence: Mapping[str, Any]) -> Decision:
    """
    Commit what a person decided; ``change`` is asked again about the fresh state after a lost race.

    A policy that cannot be read keeps no person from it, unless ``change`` asks it; the decision says so.

    Args:
        evidence: at least ``reason``, ``by`` and ``now`` (event time of the decision).

    Raises:
        BadInput: the reason or the name is empty, too long or not plain text.
    """
    for name in ("reason", "by"):
        check_text(name, str(evidence[name]))

    def decide(snapshot: Snapshot) -> Decision:
        about, after = change(snapshot)
        state = snapshot.state
        return Decision.between(
            state,
            after,
            evidence,
            id=identify(stage, [action, state.model_dump(mode="json"), dict(evidence)]),
            stage=stage,
            action=action,
            verdict=Verdict.PASS,
            candidate=about,
            reasons=(_said(f"{evidence['by']}: {evidence['reason']}"), *_without_policy(snapshot)),
            now=str(evidence["now"]),
            policy_digest=snapshot.policy_digest,
            run=run_of(gitops, gitops.trail(snapshot.commit), about) if action in _OF_A_RUN else {},
        )

    with gitops.without_policy():
        return gitops.record(decide)


def _said(text: str) -> Reason:
    return Reason.plain("person", Verdict.PASS, text)


def _without_policy(snapshot: Snapshot) -> tuple[Reason, ...]:
    problem = snapshot.policy_problem
    text = f"it cannot be read, and a person needs none: {problem}"
    return (Reason.plain("policy", Verdict.INCONCLUSIVE, text),) if problem else ()


def check_text(name: str, text: str) -> None:
    """
    What goes into a commit message is one short line that can be printed.

    Raises:
        BadInput: it is not; says why.
    """
    if not text.strip():
        raise BadInput(f"the text of {name!r}", "is empty", "say it; it is written into the commit")
    if len(text) > _LONGEST or not text.isprintable():
        rule = f"is longer than {_LONGEST} letters, or has line breaks or other letters that cannot be printed"
        raise BadInput(f"the text of {name!r}", rule, "write one short line")


def _with_holds(state: ReleaseState, holds: tuple[Hold, ...]) -> ReleaseState:
    return state.model_copy(update={"holds": holds})


def _valid_digest(digest: str) -> str:
    body = digest.removeprefix("sha256:")
    if digest == body or len(body) != 64 or set(body) - set("0123456789abcdef"):
        raise BadInput(f"digest {digest!r}", "is not sha256: and 64 hexadecimal digits", "see `sluice status`")
    return digest
