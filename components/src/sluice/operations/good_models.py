"""Which models a rollback may go back to, as the decisions tell."""

from __future__ import annotations

from collections.abc import Iterable

from sluice.gitops.reader import ReleaseReader
from sluice.ledger.trail import Step
from sluice.release.snapshot import Snapshot


def good_models(gitops: ReleaseReader, snapshot: Snapshot) -> list[str]:
    """
    Models that were confirmed and never left by a rollback since, the one that served last first.

    Left by a rollback: as stable, as a candidate that came again, or by hand, where somebody reverts the release file
    to a model that was good before. Lifting a hold makes no model good again; being confirmed again does. A model that
    served before the first decision counts as confirmed.
    """
    steps = list(gitops.trail(snapshot.commit).steps(snapshot.state.environment))[::-1]
    last = steps[0].before if steps else snapshot.state.stable
    confirmed: dict[str, list[Step]] = {last: []} if last else {}
    for step in steps:
        _follow_by_hand(confirmed, last, step.before)
        _follow(confirmed, step)
        last = step.after
    _follow_by_hand(confirmed, last, snapshot.state.stable)
    return [digest for digest in reversed(confirmed) if not _is_rolled_back(gitops, confirmed[digest])]


def earlier_models(gitops: ReleaseReader, snapshot: Snapshot) -> list[str]:
    """Those of ``good_models`` that are not stable now and not held."""
    state = snapshot.state
    return [each for each in good_models(gitops, snapshot) if each != state.stable and not state.held(each)]


def _follow(confirmed: dict[str, list[Step]], step: Step) -> None:
    """What one decision makes of the models that were confirmed so far, each with the decisions on it since."""
    if step.after == step.before:
        if step.candidate in confirmed and step.candidate != step.before:
            confirmed[step.candidate].append(step)
        return
    if step.candidate == step.before:
        confirmed.pop(step.before or "", None)
    if step.after:
        is_confirmed = step.candidate == step.after
        since = confirmed.pop(step.after, None)
        if is_confirmed or since is not None:
            confirmed[step.after] = [] if is_confirmed else since or []


def _follow_by_hand(confirmed: dict[str, list[Step]], before: str | None, after: str | None) -> None:
    if before != after and after in confirmed:
        confirmed.pop(before or "", None)
        confirmed[after] = confirmed.pop(after)


def _is_rolled_back(gitops: ReleaseReader, steps: Iterable[Step]) -> bool:
    """Whether one of the decisions on a candidate rolled it back; what its commit says does not tell."""
    return any(decision.action == "rollback" for _, _, decision in gitops.records_of(list(steps)))
