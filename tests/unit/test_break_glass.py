"""What is served while Git does not know of a rollback: never the digest that a person took out."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from sluice.documents.state import Hold, ReleaseState
from sluice.errors import BadArtifact, Refused
from sluice.gitops.break_glass import BreakGlass, Glass, break_glass, decision_of, effective
from tests.support.release import NOW, SINCE, A, B, C, snapshot_of, state_in

D = "sha256:" + "d" * 64
STATES = [state_in(stage) for stage in ("empty", "bootstrap", "shadow", "canary", "confirm", "drain", "stable")]


def _record(digest: str, *earlier: str) -> BreakGlass:
    return BreakGlass(
        id="rollback-000000000000",
        task="toy",
        environment="dev",
        digest=digest,
        earlier=earlier,
        reason="wrong",
        by="kim",
        at=NOW,
        base="0" * 40,
    )


@pytest.mark.parametrize(
    ("state", "digest", "earlier"), list(itertools.product(STATES, (A, B, C), ((), (C,), (A, B, C, D), (D,))))
)
def test_the_digest_is_never_served_and_always_held(state: ReleaseState, digest: str, earlier: tuple[str, ...]) -> None:
    record = _record(digest, *(one for one in earlier if one != digest))
    after = effective(state, record)
    assert digest not in (after.stable, after.candidate)
    assert after.held(digest) is not None
    assert effective(after, record) == after
    assert ReleaseState.model_validate(after.model_dump()) == after
    if digest not in (state.stable, state.candidate):
        assert after.model_copy(update={"holds": ()}) == state.model_copy(update={"holds": ()})


def test_without_a_record_git_is_right() -> None:
    assert all(effective(state, None) == state for state in STATES)


def test_a_candidate_leaves_its_stable_alone() -> None:
    after = effective(state_in("canary"), _record(B, C))
    assert (after.stage, after.stable, after.candidate, after.stable_weight) == ("drain", A, None, 100)


def test_a_promoted_one_is_replaced_by_the_best_earlier_model_that_is_not_held() -> None:
    held = Hold(digest=C, reason="broke", by="kim", at=SINCE)
    state = state_in("stable").model_copy(update={"holds": (held,)})
    assert effective(state, _record(A, C, D)).stable == D
    assert effective(state, _record(A, C)).stage == "empty"


def test_a_rollout_against_the_bad_stable_ends_with_it() -> None:
    after = effective(state_in("canary"), _record(A, D))
    assert (after.stable, after.candidate, after.rollout) == (D, None, None)
    assert after.held(B) is None


def test_what_serves_decides_which_digest_goes() -> None:
    texts = {"reason": "wrong", "by": "kim", "at": NOW}
    assert break_glass(state_in("canary"), "f" * 40, [C], {}, **texts).digest == B
    stable = break_glass(state_in("stable"), "f" * 40, [C, A], {}, **texts)
    assert (stable.digest, stable.earlier) == (A, (C,))
    assert break_glass(state_in("canary"), "f" * 40, [], {}, **texts).earlier == (A,)
    with pytest.raises(Refused, match="nothing is served"):
        break_glass(state_in("empty"), "f" * 40, [], {}, **texts)
    with pytest.raises(Refused, match="no earlier model"):
        break_glass(state_in("stable"), "f" * 40, [A], {}, **texts)


def test_the_decision_has_the_record_s_id_whatever_git_says_by_then() -> None:
    record = _record(B, A)
    made = [decision_of(record, snapshot_of(state)) for state in STATES]
    assert {one.id for one in made} == {record.id}
    assert {one.evidence_digest for one in made} == {made[0].evidence_digest}


def test_one_record_at_a_time_and_a_broken_one_is_named(tmp_path: Path) -> None:
    glass = Glass(tmp_path / "break-glass" / "dev.json")
    assert glass.pending_record() is None
    glass.write(_record(B))
    assert glass.pending_record() == _record(B)
    with pytest.raises(Refused, match=f"rollback of {B} stands since"):
        glass.write(_record(C))
    glass.remove()
    glass.remove()
    glass.path.write_text("{")
    with pytest.raises(BadArtifact, match=r"dev\.json"):
        glass.pending_record()
