"""``sluice decide``: the loop's own decision for whoever asks, strict about documents and about evidence."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sluice.content import digest_of_bytes
from sluice.documents.verdict import Decision, Verdict
from sluice.errors import BadInput
from sluice.gates.guards import refusals
from sluice.gates.policy import read_policy
from sluice.gitops.writer import Snapshot
from sluice.operations.decide import decide, describe
from sluice.rollout.advance import advance, look
from tests.support.command import sluice
from tests.support.release import (
    LATE,
    NOW,
    POLICY,
    STAGES,
    C,
    evidence_of,
    failing,
    passing,
    state_in,
    unclear,
)

POLICY_TEXT = """
apiVersion: sluice.dev/v1
kind: GatePolicy
task: toy
environment: dev
select: {}
offline: [{metric: auc, role: success, against: best-baseline}]
online:
  design_effect: 1
  shadow:
    minimum_n: 500
    maximum_hours: 72
    rules: &rules [{metric: split, role: quality, alpha: 0.001}, &errors {metric: error_rate, role: limit, limit: 0.05}]
  canary: {minimum_n: 500, maximum_hours: 72, rules: *rules, steps: [10, 50]}
  confirm: {minimum_n: 500, maximum_hours: 72, rules: [*errors]}
"""
Change = Callable[[dict[str, Any]], object]


class Case:
    """Three documents in a folder, and the question about them."""

    def __init__(self, folder: Path) -> None:
        self.policy, self.state, self.evidence = folder / "policy.yaml", folder / "S.json", folder / "E.json"
        self.policy.write_text(POLICY_TEXT)
        self.write(self.state, state_in("canary").model_dump(mode="json"))
        self.write(self.evidence, passing(state_in("canary")).model_dump(mode="json"))

    @staticmethod
    def write(path: Path, document: object) -> None:
        path.write_text(json.dumps(document))

    def change(self, path: Path, change: Change) -> None:
        document = json.loads(path.read_text())
        change(document)
        self.write(path, document)

    def ask(self, now: str = NOW) -> Decision:
        return decide(self.policy, self.state, self.evidence, now)

    def run(self, *more: str, now: str = NOW) -> subprocess.CompletedProcess[str]:
        files = {"--policy": self.policy, "--state": self.state, "--evidence": self.evidence}
        named = [part for pair in files.items() for part in pair]
        return sluice("decide", *named, "--now", now, *more, env={"PATH": "/usr/bin:/bin", "COLUMNS": "200"})


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("make", [passing, failing, unclear])
@pytest.mark.parametrize("now", [NOW, LATE])
def test_it_says_what_the_loop_would_commit(case: Case, stage: str, make: Any, now: str) -> None:
    state = state_in(stage)
    evidence = make(state, now)
    case.write(case.state, state.model_dump(mode="json"))
    case.write(case.evidence, evidence.model_dump(mode="json"))
    made = case.ask(now)
    policy, digest = read_policy(case.policy)
    assert digest == digest_of_bytes(case.policy.read_bytes())
    committed = look(Snapshot("0" * 40, state, policy, digest), evidence, now, {})
    assert made == committed if committed else made.action == "wait"
    assert made.verdict is advance(state, evidence, policy, now).verdict
    assert made.before == state.model_dump(mode="json")
    assert (made.before == made.after) == (made.action == "wait")


def test_the_command_prints_lines_and_json_and_exits_with_0(case: Case) -> None:
    shown, found = case.run(), case.run("--json")
    assert (shown.returncode, found.returncode) == (0, 0), shown.stderr + found.stderr
    assert Decision.model_validate_json(found.stdout) == case.ask()
    assert "PASS → set-weight" in shown.stdout
    assert "then canary, weights 50 / 50 %" in shown.stdout
    case.write(case.evidence, failing(state_in("canary")).model_dump(mode="json"))
    failed = case.run()
    assert failed.returncode == 0
    assert "FAIL → rollback" in failed.stdout
    case.change(case.evidence, _set("stage", value="shadow"))
    lying = case.run()
    assert (lying.returncode, "INCONCLUSIVE → wait" in lying.stdout) == (0, True)
    assert "evidence.stage" in lying.stdout


def test_between_rollouts_it_waits_and_says_why(case: Case) -> None:
    case.write(case.state, state_in("stable").model_dump(mode="json"))
    made = case.ask()
    assert (made.action, made.verdict) == ("wait", Verdict.INCONCLUSIVE)
    assert "no rollout is going on" in "\n".join(describe(made))


def _set(*keys: str | int, value: object) -> Change:
    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (_set("task", value="other"), "evidence.task"),
        (_set("environment", value="prod"), "evidence.environment"),
        (_set("rollout", value="r0009-x"), "evidence.rollout"),
        (_set("stage", value="shadow"), "evidence.stage"),
        (_set("step", value=1), "evidence.step"),
        (_set("since", value="2020-01-01T00:00:01Z"), "evidence.since"),
        (_set("candidate", "digest", value=C), "evidence.digest"),
        (_set("stable", "digest", value=C), "evidence.digest"),
        (_set("candidate", value=None), "evidence.digest"),
        (_set("stable", value=None), "evidence.digest"),
        (_set("now", value="2020-01-02T00:00:01Z"), "evidence.future"),
        (_set("candidate", "last", value="2020-01-02T00:00:00.5Z"), "evidence.future"),
        (_set("candidate", "first", value="2019-12-31T23:59:59Z"), "evidence.window"),
        (_set("now", value="2020-01-01T11:59:59Z"), "evidence.age"),
        (_set("applied", "candidate_weight", value=50), "applied"),
    ],
)
@pytest.mark.parametrize("make", [passing, failing])
def test_evidence_that_does_not_fit_is_named_and_inconclusive(case: Case, change: Change, rule: str, make: Any) -> None:
    case.write(case.evidence, make(state_in("canary")).model_dump(mode="json"))
    case.change(case.evidence, change)
    made = case.ask()
    assert (made.action, made.verdict) == ("wait", Verdict.INCONCLUSIVE)
    assert rule in [reason.rule for reason in made.reasons]
    assert {reason.verdict for reason in made.reasons} == {Verdict.INCONCLUSIVE}
    assert rule in "\n".join(describe(made))


def test_old_is_what_the_policy_says(case: Case) -> None:
    later = "2020-01-02T13:00:00Z"
    assert [reason.rule for reason in case.ask(later).reasons] == ["evidence.age"]
    case.policy.write_text(POLICY_TEXT.replace("online:", "online:\n  evidence_hours: 13"))
    assert case.ask(later).verdict is Verdict.PASS


def test_traffic_that_stopped_is_old_however_new_the_evidence_is(case: Case) -> None:
    old = {}
    for arm in ("candidate", "stable"):
        case.change(case.evidence, _set(arm, "last", value="2020-01-01T11:00:00Z"))
        old[arm] = "evidence.age" in [reason.rule for reason in case.ask().reasons]
    assert old == {"candidate": False, "stable": True}, "one side that answers is traffic"


def test_empty_evidence_is_inconclusive_and_a_starved_candidate_a_broken_split() -> None:
    state = state_in("canary")
    nothing = {"n": 0, "errors": 0, "due": 0, "labelled": 0, "loss": None}
    evidence = evidence_of(state)
    empty = evidence.model_copy(
        update={
            "split": (0, 0),
            "candidate": evidence.candidate and evidence.candidate.model_copy(update=nothing),
            "stable": evidence.stable and evidence.stable.model_copy(update=nothing),
        }
    )
    assert [reason.rule for reason in advance(state, empty, POLICY, NOW).reasons] == ["evidence.empty"]
    starved = evidence_of(state, n=0, split=(9000, 0))
    assert [reason.rule for reason in advance(state, starved, POLICY, NOW).reasons] == ["split"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_refused_even_where_no_document_was_read(number: float) -> None:
    state = state_in("canary")
    evidence = evidence_of(state).model_copy(update={"skew": {"speed": number}})
    (reason,) = refusals(evidence, state, POLICY, NOW)
    assert (reason.rule, reason.verdict) == ("evidence.finite", Verdict.INCONCLUSIVE)
    assert "skew.speed" in reason.text


@pytest.mark.parametrize(
    ("document", "old", "new", "key", "rule"),
    [
        ("E", '"mean": 2.0', '"mean": NaN', "timings.candidate.mean", "is nan"),
        ("E", '"mean": 2.0', '"mean": -Infinity', "timings.candidate.mean", "is -inf"),
        ("E", '"mean": 2.0', '"mean": 1e999', "timings.candidate.mean", "is inf"),
        ("E", '"foreign": 0', f'"foreign": {"9" * 320}', "foreign", "a whole number beyond 1,000,000,000,000,000"),
        ("E", '"n": 4000', f'"n": {10**15 + 1}', "candidate.n", "a whole number beyond 1,000,000,000,000,000"),
        ("E", '"mean": 2.0', '"mean": -1e308', "timings.candidate.mean", "is -1e+308, beyond 1e+100"),
        ("E", '"foreign": 0', f'"foreign": {"9" * 5000}', "", "is not JSON"),
        ("S", '"sequence": ', '"sequence": 9999999999999999', "sequence", "a whole number beyond"),
        ("E", '"foreign": 0', '"foreign": 0, "foreign": 1', "foreign", "is there twice"),
        ("E", '"foreign": 0', '"foreign": "0"', "foreign", "valid integer"),
        ("E", '"foreign": 0', '"foreign": -1', "foreign", "greater than or equal to 0"),
        ("E", '"foreign": 0', '"foreigners": 0', "foreign", "required"),
        ("E", '"foreign": 0', '"foreign": 0, "more": 1', "more", "not permitted"),
        ("E", '"errors": 0', '"errors": 4001', "candidate", "errors is 4001, of 4000"),
        ("E", '"labelled": 4000', '"labelled": 4001', "candidate", "labelled is 4001"),
        ("E", '"different": 0', '"different": 1001', "cells", "different is 1001"),
        ("E", '"speed": 0.02', '"speed": 1.2', "skew.speed", "less than or equal to 1"),
        ("E", '"now": "2020-01-02T00:00:00Z"', '"now": "2020-02-30T00:00:00Z"', "now", "day is out of range"),
        ("E", '"now": "2020-01-02T00:00:00Z"', '"now": "2020-01-02T00:00:00"', "now", "pattern"),
        ("E", '{"task"', '{"task', "", "is not JSON"),
        ("E", '{"task"', '\ufeff{"task"', "", "is not JSON: it begins with a byte-order mark"),
        ("S", '"stage": "canary"', '"stage": "canery"', "stage", "got 'canery'"),
        ("S", '"candidate_weight": 10', '"candidate_weight": 20', "weights", "do not add up to 100"),
        ("S", '"candidate_weight": 10', '"candidate_weight": 10.0', "candidate_weight", "valid integer"),
        ("S", '"task": "toy"', '"task": "toys"', None, "is toys dev"),
        ("P", "minimum_n: 500", "minimum_n: 5", "online.shadow.minimum_n", "greater than or equal to 30"),
        ("P", "kind: GatePolicy", "kind: GatePolice", "kind", "GatePolicy"),
        ("P", "kind: GatePolicy", "kind: [", "", "is not YAML"),
    ],
)
def test_a_document_that_breaks_its_schema_is_one_line_and_exit_2(  # noqa: PLR0917  one argument a column
    case: Case, document: str, old: str, new: str, key: str | None, rule: str
) -> None:
    path = {"E": case.evidence, "S": case.state, "P": case.policy}[document]
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BadInput) as refused:
        case.ask()
    if key is not None:
        assert re.sub(r", line \d+", "", refused.value.thing) == (f"{path}: {key}" if key else str(path))
    assert rule in refused.value.rule
    assert refused.value.fix
    assert "\n" not in str(refused.value)


def test_a_document_that_is_no_text_missing_or_deep_is_refused(case: Case) -> None:
    for data in (b"\xff\xfe", b"[" * 100_000, b"", b"null"):
        case.evidence.write_bytes(data)
        with pytest.raises(BadInput, match=r"E\.json"):
            case.ask()
    case.evidence.unlink()
    before = sorted(case.evidence.parent.iterdir())
    done = case.run("--json")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "E.json: cannot be read" in done.stderr
    assert sorted(case.evidence.parent.iterdir()) == before


@pytest.mark.parametrize("number", [str(10**15), "1e100", "-1e100", "5e-324"])
def test_whatever_can_be_counted_or_measured_is_decided_on(case: Case, number: str) -> None:
    old = '"counts": [0' if number.isdigit() else '"mean": 2.0'
    text = case.evidence.read_text()
    assert old in text
    case.evidence.write_text(text.replace(old, old.replace(old.rsplit(maxsplit=1)[-1].strip("["), number)))
    assert case.ask().reasons


@pytest.mark.parametrize("now", ["today", "2020-01-02", "2020-01-02T00:00:00", "2020-02-30T00:00:00Z", "-5"])
def test_the_moment_must_be_one(case: Case, now: str) -> None:
    with pytest.raises(BadInput, match="2013-08-01T05:00:00Z"):
        case.ask(now)
