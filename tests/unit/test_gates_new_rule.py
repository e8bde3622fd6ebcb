"""A new online rule is one file and its entry in the registry: the command then decides by it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sluice
from sluice.documents.verdict import Decision, Reason, Verdict
from tests.support.release import NOW, POLICY_TEXT, B, arm, evidence_of, state_in

RULE = '''
"""How many answers were made with a feature past its time to live?"""

from __future__ import annotations

from sluice.documents.verdict import Reason
from sluice.gates.rates import proportion_interval
from sluice.gates.reasons import MeasuredInterval, interval_reason, no_evidence
from sluice.gates.rule_kind import Question, RuleKind


def _judge(question: Question) -> tuple[Reason, ...]:
    arm, alpha = question.evidence.candidate, question.alpha
    if arm is None or not arm.n:
        return (no_evidence(question, "staleness", "the candidate answered no request"),)
    measurement = MeasuredInterval(proportion_interval(arm.stale, arm.n, alpha), arm.n, "stale answers", alpha)
    return (interval_reason(question, "staleness", measurement),)


KIND = RuleKind(
    metric="staleness",
    about="Share of answers that were made with a feature past its time to live.",
    unit="share of answers",
    judge=_judge,
    roles=("limit",),
    open_limits=True,
)
'''
_IMPORT, _ENTRY = "    split,\n)", "        restarts.KIND,\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the package with the rule's file and its entry."""
    folder = tmp_path / "source"
    shutil.copytree(Path(sluice.__path__[0]), folder / "sluice", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "sluice/gates/rules/staleness.py").write_text(RULE)
    registry = folder / "sluice/gates/registry.py"
    text = registry.read_text()
    assert (text.count(_IMPORT), text.count(_ENTRY)) == (1, 1)
    text = text.replace(_IMPORT, "    split,\n    staleness,\n)").replace(_ENTRY, f"{_ENTRY}        staleness.KIND,\n")
    registry.write_text(text)
    return folder


def _ask(source: Path, stale: int) -> subprocess.CompletedProcess[str]:
    state, rules = state_in("canary"), b"steps: [10, 50], rules: [*split, "
    assert rules in POLICY_TEXT
    documents: dict[str, Any] = {
        "policy": POLICY_TEXT.replace(rules, rules + b"{metric: staleness, role: limit, limit: 0.05}, ").decode(),
        "state": state.model_dump_json(),
        "evidence": evidence_of(state, candidate=arm(B, 4000).model_copy(update={"stale": stale})).model_dump_json(),
    }
    command = [str(Path(sys.executable).with_name("sluice")), "decide", "--now", NOW, "--json"]
    for name, text in documents.items():
        path = source / name
        path.write_text(text)
        command += [f"--{name}", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _decision(done: subprocess.CompletedProcess[str]) -> tuple[Decision, Reason]:
    assert done.returncode == 0, done.stderr
    decision = Decision.model_validate(json.loads(done.stdout))
    (reason,) = [reason for reason in decision.reasons if reason.rule == "staleness"]
    return decision, reason


def test_it_decides(source: Path) -> None:
    decision, reason = _decision(_ask(source, stale=40))
    assert (reason.verdict, reason.role, reason.bound, reason.n) == (Verdict.PASS, "limit", 0.05, 4000)
    assert (decision.verdict, decision.action) == (Verdict.PASS, "set-weight")
    decision, reason = _decision(_ask(source, stale=400))
    assert reason.verdict is Verdict.FAIL
    assert (decision.verdict, decision.action) == (Verdict.FAIL, "rollback")
    assert decision.after["holds"][-1]["reason"].startswith("staleness: stale answers: 0.1000 (between")
