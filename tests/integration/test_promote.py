"""dev → staging → prod in one repository: what is confirmed in one is proposed in the next, once, by its own policy."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sluice.errors import BadInput
from sluice.gates.policy import read_policy
from sluice.gitops.writer import GitOps
from sluice.operations.approve import approve
from sluice.operations.ledger import verify
from sluice.operations.operator import add_hold, break_the_glass, roll_back
from sluice.operations.promote import promote
from sluice.operations.status import describe, status_of
from sluice.operations.why import why
from sluice.release.file import render_release
from tests.support import command as commands
from tests.support.environments import (
    ROOT,
    RUN,
    Environments,
    evaluation,
    git_as_kim,
    policy_of,
    write_chained_checkout,
)
from tests.support.release import A, B, C, failing, unclear

PRODUCTION = b"- {metric: auc, role: guardrail, against: production, margin: 0.01}"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    return write_chained_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture
def town(tmp_path: Path, checkout: Path) -> Environments:
    """Nothing is released yet."""
    return Environments(tmp_path, checkout)


def test_the_shipped_policies_lead_from_dev_to_prod() -> None:
    policies = [
        read_policy(ROOT / "manifests/overlays" / name / "gate-policy.yaml")[0] for name in ("dev", "staging", "prod")
    ]
    assert [policy.promote_from for policy in policies] == [None, "dev", "staging"]
    assert [len(policy.freeze) for policy in policies] == [0, 0, 1]


def _tip(gitops: GitOps) -> str:
    return gitops.snapshot().commit


def test_a_confirmed_model_goes_from_dev_to_prod_by_one_commit_each(town: Environments) -> None:
    confirmed = town.release(A)
    commit = town.dev.trail().commit_of(confirmed.id)
    made = town.promote(town.staging)
    assert made.decision is not None
    assert (made.decision.environment, made.decision.action, made.forbidden) == ("staging", "bootstrap", False)
    came = {"environment": "dev", "decision": confirmed.id, "commit": commit}
    assert made.decision.run == {**RUN, "promoted_from": came}
    assert made.decision.evidence == evaluation()
    assert made.decision.reasons[0].rule == "promoted"
    assert town.staging.snapshot().state.candidate == A
    assert git_as_kim("rev-list", "--count", f"{commit}..main", cwd=town.remote) == "2", "housekeeping"
    town.confirm(town.staging)
    first = town.promote(town.prod)
    assert first.decision is not None
    assert first.decision.run["promoted_from"]["environment"] == "staging"
    assert town.prod.snapshot().state.candidate == A
    for gitops in (town.dev, town.staging, town.prod):
        verify(gitops, None).require_intact()


def test_asked_again_it_writes_nothing(town: Environments) -> None:
    town.release(A)
    assert town.promote(town.staging).decision
    tip = _tip(town.staging)
    again = town.promote(town.staging)
    assert (again.decision, again.forbidden, _tip(town.staging)) == (None, False, tip)
    assert "is in bootstrap in staging already" in again.text
    town.confirm(town.staging)
    assert "is the stable model in staging already" in town.promote(town.staging).text


def test_what_is_not_confirmed_is_not_promoted(town: Environments) -> None:
    assert "no stable model that a decision confirmed" in town.promote(town.staging).text
    town.propose(A, evaluation())
    assert town.promote(town.staging).decision is None
    town.confirm(town.dev)
    town.propose(B, evaluation(versus=A))
    town.look(town.dev)
    made = town.promote(town.staging)
    assert made.decision is not None
    assert made.decision.candidate == A, "dev's stable model, not the one on its way"


def test_a_state_written_by_hand_confirms_nothing(town: Environments) -> None:
    town.release(A)
    state = town.dev.snapshot().state
    town.edit("dev", "release/kustomization.yaml", render_release(state.settled(C, town.now(), ())))
    assert town.dev.snapshot().state.stable == C
    made = town.promote(town.staging)
    assert (made.decision, made.forbidden) == (None, False)


def test_one_rollout_at_a_time(town: Environments) -> None:
    town.release(A)
    town.promote(town.staging)
    town.release(B, evaluation(versus=A))
    tip = _tip(town.staging)
    made = town.promote(town.staging)
    assert (made.decision, made.forbidden, _tip(town.staging)) == (None, True, tip)
    assert "one rollout at a time" in made.text


def test_a_freeze_here_is_waited_for(town: Environments) -> None:
    town.release(A)
    ice = b"freeze: [{first: 2020-01-01, last: 2020-01-20, reason: stocktaking}]\n"
    town.edit("staging", "gate-policy.yaml", policy_of("staging", "dev") + ice)
    tip = _tip(town.staging)
    made = town.promote(town.staging)
    assert (made.decision, made.forbidden, _tip(town.staging)) == (None, True, tip)
    assert "(stocktaking)" in made.text
    town.day = 20
    assert town.promote(town.staging).decision is not None


@pytest.mark.parametrize("where", ["dev", "staging", "prod"])
def test_a_hold_anywhere_on_the_way_stops_it(town: Environments, where: str) -> None:
    town.release(A)
    town.promote(town.staging)
    town.confirm(town.staging)
    if where == "prod":
        add_hold(town.prod, A, "audit", "kim", town.now())
    else:  # what is stable is held by going back from it; dev and staging have another model then
        town.release(B, evaluation(versus=A))
        town.promote(town.staging)
        town.confirm(town.staging)
        roll_back(getattr(town, where), "audit", "kim", town.now())
    made = town.promote(town.prod)
    if where == "staging":  # staging is back at A, which nobody holds
        assert made.decision is not None
        assert made.decision.candidate == A
        return
    assert (made.decision, made.forbidden) == (None, True)
    assert f"held in {where} since" in made.text


def test_a_break_glass_rollback_that_git_does_not_know_stops_it(town: Environments) -> None:
    town.release(A)
    town.release(B, evaluation(versus=A))
    break_the_glass(town.dev, "down", "kim", town.now())
    made = town.promote(town.staging)
    assert (made.decision, made.forbidden) == (None, True)
    assert "break-glass" in made.text


@pytest.mark.parametrize("end", ["rolled back", "timed out"])
def test_what_ended_here_before_waits_for_a_person(town: Environments, end: str) -> None:
    town.release(A)
    town.promote(town.staging)
    town.confirm(town.staging)
    town.release(B, evaluation(versus=A))
    town.promote(town.staging)
    if end == "rolled back":
        town.look(town.staging, failing)
        assert "held in staging" in town.promote(town.staging).text
    else:
        town.day += 5
        assert town.look(town.staging, unclear).action == "time-out"
        town.drain(town.staging)
        made = town.promote(town.staging)
        assert (made.decision, made.forbidden) == (None, True)
        assert "--again" in made.text
    made = town.promote(town.staging, ("kim", "the store was down"))
    if end == "rolled back":
        assert (made.decision, made.forbidden) == (None, True), "a hold binds persons too"
        return
    assert made.decision is not None
    assert (made.decision.action, made.decision.reasons[1].text) == ("start-shadow", "kim: the store was down")


def test_this_environments_own_policy_judges(town: Environments) -> None:
    town.release(A, evaluation(gain=0.03))
    stricter = policy_of("staging", "dev").replace(b"against: best-baseline}", b"against: best-baseline, margin: 0.1}")
    town.edit("staging", "gate-policy.yaml", stricter)
    made = town.promote(town.staging)
    assert made.decision is not None
    assert (made.decision.action, made.decision.verdict, made.forbidden) == ("refuse", "FAIL", True)
    tip = _tip(town.staging)
    assert town.promote(town.staging).decision == made.decision, "the refusal is written once"
    assert _tip(town.staging) == tip
    town.edit("staging", "gate-policy.yaml", policy_of("staging", "dev"))
    mended = town.promote(town.staging)
    assert mended.decision is not None
    assert mended.decision.action == "bootstrap"
    verify(town.staging, None).require_intact()


def test_without_an_evaluation_nothing_is_promoted(town: Environments) -> None:
    town.release(A, {})
    made = town.promote(town.staging)
    assert made.decision is not None
    assert (made.decision.action, made.decision.verdict, made.forbidden) == ("refuse", "INCONCLUSIVE", True)
    assert "no offline evaluation" in made.text
    assert town.staging.snapshot().state.stage == "empty"


@pytest.mark.parametrize(
    ("versus", "verdict", "says"),
    [(None, "INCONCLUSIVE", "never compared with a production model"), (B, "PASS", "and the online stages compare")],
)
def test_production_of_the_evaluation_is_not_the_one_here(
    town: Environments, versus: str | None, verdict: str, says: str
) -> None:
    town.edit("staging", "gate-policy.yaml", policy_of("staging", "dev", offline=PRODUCTION))
    town.propose(C, evaluation(), town.staging)
    town.confirm(town.staging)
    if versus:
        town.release(B)
    town.release(A, evaluation(versus=versus))
    made = town.promote(town.staging)
    assert made.decision is not None
    (told,) = [reason for reason in made.decision.reasons if reason.rule == "production"]
    assert (told.verdict, made.decision.verdict) == (verdict, verdict)
    assert says in told.text


def _unknown(town: Environments) -> None:
    town.edit("staging", "gate-policy.yaml", policy_of("staging", "qa"))


def _own(town: Environments) -> None:
    town.edit("staging", "gate-policy.yaml", policy_of("staging", "staging"))


def _circle(town: Environments) -> None:
    town.edit("dev", "gate-policy.yaml", policy_of("dev", "staging"))


def _none(town: Environments) -> None:
    town.edit("staging", "gate-policy.yaml", policy_of("staging", None))


WRONG: dict[str, tuple[Callable[[Environments], None], str]] = {
    "an unknown environment": (_unknown, r"staging/gate-policy.yaml: promote_from: environment 'qa' is not in"),
    "itself": (_own, r"staging/gate-policy.yaml, line 6: promote_from: staging cannot get its models from itself"),
    "a circle": (_circle, r"dev/gate-policy.yaml: promote_from: goes in a circle \(staging <- dev <- staging\)"),
    "nothing": (_none, r"staging/gate-policy.yaml: promote_from: is not there"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_source_that_is_none_is_refused_by_name(town: Environments, case: str) -> None:
    change, says = WRONG[case]
    town.release(A)
    change(town)
    tip = git_as_kim("rev-parse", "main", cwd=town.remote)
    with pytest.raises(BadInput, match=says):
        town.promote(town.staging)
    assert git_as_kim("rev-parse", "main", cwd=town.remote) == tip


def test_who_loses_the_race_looks_again(town: Environments) -> None:
    town.release(A)

    class Loses(GitOps):
        raced = False

        def records_of(self, steps: Any) -> Any:
            if not self.raced:
                self.raced = True
                assert town.promote(town.staging).decision
            return super().records_of(steps)

    made = promote(Loses(town.remote, "staging", clone=town.folder / "other"), town.now())
    assert made.decision is None
    assert len(town.staging.decisions()) == 1


@pytest.mark.parametrize("moment", ["before the push", "after the push"])
def test_killed_and_repeated_is_one_decision(town: Environments, moment: str) -> None:
    town.release(A)

    class Killed(Exception):
        pass

    gitops = GitOps(town.remote, "staging")
    push = gitops.clone.push

    def dies(commit: str) -> bool:
        if moment == "after the push":
            push(commit)
        raise Killed

    gitops.clone.push = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        promote(gitops, town.now())
    town.promote(town.staging)
    assert [made.action for made in town.staging.decisions()] == ["bootstrap"]
    verify(town.staging, None).require_intact()


def test_status_and_why_show_where_it_comes_from(town: Environments) -> None:
    confirmed = town.release(A)
    town.promote(town.staging)
    found = status_of(town.staging)
    assert found["promoted_from"]["candidate"]["decision"] == confirmed.id
    assert any(f"(from dev, {confirmed.id})" in line for line in describe(found))
    town.confirm(town.staging)
    assert status_of(town.staging)["promoted_from"]["stable"]["environment"] == "dev"
    told = "\n".join(why(town.staging, A).lines())
    assert f"stable in dev, confirmed by {confirmed.id}" in told
    assert f"decision {confirmed.id}, environment dev" in told
    assert status_of(town.dev)["promoted_from"] == {}


def sluice(town: Environments, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"SLUICE_HOME": str(town.remote.parent), "PATH": os.environ["PATH"], "COLUMNS": "200"}
    return commands.sluice(*arguments, env=environment)


def test_the_command_proposes_and_says_how_it_went(town: Environments) -> None:
    town.release(A, {})
    assert sluice(town, "promote", "--env", "dev").returncode == 2
    refused = sluice(town, "promote", "--env", "staging")
    assert (refused.returncode, refused.stderr) == (3, "")
    assert "INCONCLUSIVE by evaluation" in refused.stdout
    town.release(B, evaluation(versus=A))
    done = sluice(town, "promote", "--env", "staging", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["decision"]["candidate"], document["forbidden"]) == (B, False)
    nothing = sluice(town, "promote", "--env", "staging", "--json")
    assert (nothing.returncode, json.loads(nothing.stdout)["decision"]) == (0, None)
    bad = sluice(town, "promote", "--env", "staging", "--again", "")
    assert (bad.returncode, len(bad.stderr.splitlines())) == (2, 1)


def test_in_prod_a_person_agrees(town: Environments) -> None:
    """Promoted by machine, paused by its policy, approved by a person."""
    for digest in (A, B):
        town.release(digest, evaluation(versus=None if digest == A else A))
        town.promote(town.staging)
        town.confirm(town.staging)
        if digest == B:
            text = policy_of("prod", "staging").replace(
                b"    minimum_n: 500\n", b"    minimum_n: 500\n    approval: true\n", 1
            )
            town.edit("prod", "gate-policy.yaml", text)
        assert town.promote(town.prod).decision
        if digest == A:
            town.confirm(town.prod)
    assert town.look(town.prod).action == "pause"
    assert approve(town.prod, "agreed", "kim", town.now()).after["stage"] == "canary"
