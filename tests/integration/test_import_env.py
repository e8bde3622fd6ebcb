"""`sluice import --env`: made, judged by the environment's rules, stored and proposed by one commit."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sluice.documents.verdict import Decision
from sluice.models.bundle import load_bundle
from sluice.operations.ledger import verify
from sluice.workspace import Workspace, bundle_directory
from tests.support import command as commands
from tests.support.import_kinds import KINDS, linear_model, write_kind
from tests.support.release_repository import LENIENT_POLICY, seed_workspace

BOOTSTRAP = b"bootstrap: {allowed: true, minimum_n: 30}\n"
TASKS = {"binary": "BINARY", "counts": "COUNTS", "classes": "CLASSES"}
OTHERS = {"elsewhere": "ELSEWHERE"}
"""Names in ``tests.support.import_tasks``."""


def policy_of(name: str, margin: float = 0.0) -> bytes:
    """As lenient as the usual one; the offline rule asks for the kind's own loss."""
    usual = b"offline: [{metric: auc, role: success, against: best-baseline}]\n"
    assert usual in LENIENT_POLICY, "the rule that is replaced"
    rule = f"offline: [{{metric: loss, role: deterioration, against: best-baseline, margin: {margin}}}]\n"
    return LENIENT_POLICY.replace(usual, rule.encode()) + BOOTSTRAP


def run(tmp_path: Path, name: str, *more: str, data: bytes | None = None) -> subprocess.CompletedProcess[str]:
    (tmp_path / "m.onnx").write_bytes(linear_model("counts" if name in OTHERS else name) if data is None else data)
    (tmp_path / "spec.yaml").write_text(json.dumps({"inputs": ["size", "price"]}))
    environment = {"SLUICE_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    fixed = ("--task", f"tests.support.import_tasks:{(TASKS | OTHERS)[name]}", "--frame", "frame", "--out", "out")
    return commands.sluice(
        "import", "m.onnx", *fixed, "--spec", "spec.yaml", "--env", "dev", *more, env=environment, cwd=tmp_path
    )


def told(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", TASKS)
def test_an_import_gets_into_an_environment_by_one_commit(tmp_path: Path, name: str) -> None:
    gitops = seed_workspace(Workspace(tmp_path / "home"), policy_of(name, 0.5))
    write_kind(tmp_path / "frame", name)
    answer = told(run(tmp_path, name, "--json"))
    decision = Decision.model_validate(answer["proposal"]["decision"])
    assert (decision.action, decision.candidate) == ("bootstrap", answer["digest"]), decision.reasons
    state = gitops.snapshot().state
    assert (state.stage, state.candidate) == ("bootstrap", answer["digest"])
    stored = load_bundle(bundle_directory(Workspace(tmp_path / "home").bundles, answer["digest"]))
    assert stored.target == KINDS[name].target
    assert decision.evidence["target"] == KINDS[name].target.model_dump(mode="json") if name != "binary" else True
    written = json.loads((tmp_path / "out/evaluation.json").read_bytes())
    assert decision.evidence == {key: value for key, value in written.items() if key != "curves"}
    assert verify(gitops).problems == ()
    commit = gitops.snapshot().commit
    again = run(tmp_path, name)
    assert again.returncode == 0, again.stderr
    assert "already" in again.stdout
    assert gitops.snapshot().commit == commit


def test_what_an_offline_rule_refuses_is_on_record_and_ends_with_3(tmp_path: Path) -> None:
    gitops = seed_workspace(Workspace(tmp_path / "home"), policy_of("counts"))
    write_kind(tmp_path / "frame", "counts")
    answer = told(run(tmp_path, "counts", "--json", data=linear_model("counts", "Neg")), 3)
    assert answer["proposal"]["forbidden"] is True
    assert "deviance" in json.dumps(answer["proposal"]["decision"]["reasons"])
    assert gitops.snapshot().state.candidate is None


OUTSIDE: Mapping[str, tuple[bytes, str, tuple[str, ...], int, str]] = {
    "another task": (b"", "elsewhere", (), 2, "is about task 'tiny', and m.onnx is of 'other'"),
    "an environment that is not there": (b"", "counts", ("--env", "lab"), 2, "lab"),
    "one that another feeds": (b"promote_from: lab\n", "counts", (), 3, "takes only what lab has confirmed"),
    "no store": (b"", "counts", ("--bundles", ""), 2, "--bundles: is empty"),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_an_environment_that_cannot_take_it_is_refused_before_anything_is_written(tmp_path: Path, case: str) -> None:
    more_policy, name, more, code, reason = OUTSIDE[case]
    gitops = seed_workspace(Workspace(tmp_path / "home"), policy_of("counts") + more_policy)
    write_kind(tmp_path / "frame", "counts")
    before = gitops.snapshot().commit
    done = run(tmp_path, name, *more)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert reason in done.stderr
    assert gitops.snapshot().commit == before
    assert not (tmp_path / "out").exists()
