"""Every action and stage of a rollout is told in words, wherever people read them."""

from __future__ import annotations

from typing import Any

import pytest

from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Decision, Verdict
from sluice.operations.decide import describe
from sluice.rollout.advance import advance, decided, forward
from sluice.rollout.message import commit_message
from sluice_local.chapter import _sentence
from sluice_local.report.chapter_view import _tag
from sluice_local.report.page import _changes_of_state
from sluice_local.report.wording import ACTIONS, action_name
from tests.support.policy import policy_with
from tests.support.release import LATE, NOW, B, failing, passing, state_in, unclear

ASKING = policy_with(shadow={"approval": True}, canary={"approval": True}, confirm={"approval": True})
PLAIN = policy_with(shadow={}, canary={})


def _made(state: ReleaseState, make: Any, policy: Any = PLAIN, now: str = NOW) -> Decision:
    return decided(state, make(state, now), policy, "sha256:" + "9" * 64, now, {})


def _approved(state: ReleaseState) -> Decision:
    after = forward(state, ASKING, NOW)[1]
    paused = _made(state.model_copy(update={"paused": True}), passing, ASKING)
    changed = {"action": "approve", "stage": "approve", "after": after.model_dump(mode="json"), "verdict": Verdict.PASS}
    return paused.model_copy(update=changed)


DECISIONS = {
    "pause": _made(state_in("canary"), passing, ASKING),
    "approve": _approved(state_in("canary")),
    "time-out": _made(state_in("canary"), unclear, PLAIN, LATE),
    "rollback": _made(state_in("canary"), failing),
    "promote": _made(state_in("canary", 1), passing),
    "start-preview": _made(state_in("shadow"), passing, policy_with(shadow={}, blue_green={})),
}


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("pause", f"{B[7:19]} passed canary, waits for approval  PASS"),
        ("approve", f"{B[7:19]} approved in canary, goes to canary with 50 %  PASS"),
        ("time-out", f"{B[7:19]} timed out in canary, stable is aaaaaaaaaaaa  INCONCLUSIVE"),
        ("rollback", f"{B[7:19]} rolled back and held in canary, stable is aaaaaaaaaaaa  FAIL"),
        ("promote", "canary 50 -> 100 %, old side warm  PASS"),
        ("start-preview", f"{B[7:19]} is made ready without traffic  PASS"),
    ],
)
def test_the_commit_says_what_was_decided(action: str, said: str) -> None:
    assert DECISIONS[action].action == action
    assert commit_message(DECISIONS[action]).splitlines()[0] == f"toy dev: {said}"


@pytest.mark.parametrize("action", DECISIONS)
def test_the_report_has_a_word_for_every_action(action: str) -> None:
    assert action in ACTIONS
    assert _tag([DECISIONS[action]]).startswith(action_name(action))


def test_an_ending_is_told_with_its_stage() -> None:
    assert _tag([DECISIONS["time-out"]]) == "timed out in canary"
    assert _tag([DECISIONS["rollback"]]) == "rolled back in canary, held"


@pytest.mark.parametrize(
    ("decision", "begins"),
    [
        (DECISIONS["time-out"], f"Timed out {B[7:19]} at the canary gate: "),
        (DECISIONS["rollback"], f"Rolled back and held {B[7:19]} at the canary gate: "),
        (_made(state_in("confirm"), passing), f"Promoted {B[7:19]} in 1 commits, confirmed by labels."),
        (_approved(state_in("confirm")), f"Promoted {B[7:19]} in 1 commits, confirmed by a person."),
    ],
)
def test_a_chapter_ends_with_a_sentence(decision: Decision, begins: str) -> None:
    assert _sentence([decision]).startswith(begins)


def test_the_report_shows_when_a_rollout_waits_and_when_no_longer() -> None:
    assert _changes_of_state(DECISIONS["pause"]) == [("paused", "–", "yes")]
    assert ("paused", "yes", "–") in _changes_of_state(DECISIONS["approve"])


def test_a_decision_about_documents_says_what_follows() -> None:
    assert "  then waits for a person: `sluice approve`" in describe(DECISIONS["pause"])
    waiting = _made(state_in("canary", paused=True), passing, ASKING)
    assert any("waits for `sluice approve` until" in row for row in describe(waiting))
    assert advance(state_in("canary", paused=True), passing(state_in("canary")), ASKING, NOW).action == "wait"
