"""A bundle that somebody has becomes a proposal: judged, stored, one commit; or refused in one line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sluice.content import canonical_json
from sluice.documents.evaluation import Evaluation
from sluice.documents.verdict import Decision
from sluice.evaluation.card import card_json
from sluice.gitops.writer import GitOps
from sluice.models.bundle import load_bundle
from sluice.models.store import read_bundle
from sluice.operations.ledger import verify
from sluice.operations.operator import add_hold
from sluice.workspace import Workspace, bundle_directory
from tests.support import command as commands
from tests.support.environments import evaluation, git_as_kim
from tests.support.evaluation import RECIPE, sample_task
from tests.support.release import SINCE, A, B
from tests.support.release_repository import LENIENT_POLICY, STAGES, commit_state, seed_workspace
from tests.support.tiny_bundle import FEATURES, tiny_rows, write_tiny_bundle

NO_CURVES: dict[str, Any] = {"curves": {"roc": (), "precision_recall": (), "reliability": ()}}
POLICY = LENIENT_POLICY + b"bootstrap: {allowed: true, minimum_n: 30}\n"
TASK = "tests.support.tiny_task:TASK"


def evaluation_of(gain: float = 0.05, **changed: Any) -> Evaluation:
    """Of the tiny bundle."""
    return Evaluation.model_validate(evaluation(gain) | NO_CURVES | {"model": "student_f32"} | changed)


@pytest.fixture
def gitops(tmp_path: Path) -> GitOps:
    """Nothing is released yet."""
    return seed_workspace(Workspace(tmp_path / "home"), POLICY)


@pytest.fixture
def digest(tmp_path: Path) -> str:
    """A bundle in the folder ``out``, whose evaluation is beside it."""
    made = write_tiny_bundle(tmp_path / "out")
    (tmp_path / "out/evaluation.json").write_text(evaluation_of().model_dump_json())
    return made


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> GitOps:
    """The same, for what writes nothing."""
    return seed_workspace(Workspace(tmp_path_factory.mktemp("untouched")), POLICY)


def propose(tmp_path: Path, *arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"SLUICE_HOME": str(home or tmp_path / "home"), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    return commands.sluice("propose", *arguments, env=environment, cwd=tmp_path)


def told(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def with_card(store: Path, found: Evaluation) -> str:
    provenance = {"data": "sha256:" + "0" * 64}
    return write_tiny_bundle(
        store, beside={"card.json": canonical_json(card_json(sample_task(), RECIPE, found, (), provenance))}
    )


def test_a_first_model_gets_in_by_one_commit(tmp_path: Path, gitops: GitOps, digest: str) -> None:
    before = gitops.snapshot().commit
    document = told(propose(tmp_path, "out", "--env", "dev", "--json"))
    decision = Decision.model_validate(document["decision"])
    assert (decision.action, decision.candidate, document["forbidden"]) == ("bootstrap", digest, False)
    assert decision.run["proposed_by"]
    assert decision.run["frame"] == "sha256:" + "0" * 64
    assert gitops.snapshot().state.candidate == digest
    assert git_as_kim("rev-list", "--count", f"{before}..main", cwd=Path(gitops.remote)) == "1"
    assert read_bundle(str(Workspace(tmp_path / "home").bundles), digest, {}).digest == digest, "servers find it"
    verify(gitops, None).require_intact()


def test_asked_again_it_writes_nothing(tmp_path: Path, gitops: GitOps, digest: str) -> None:
    told(propose(tmp_path, "out", "--env", "dev", "--json"))
    tip = gitops.snapshot().commit
    again = propose(tmp_path, f"out/{digest.replace(':', '-')}", "--env", "dev", "--evaluation", "out")
    assert (again.returncode, gitops.snapshot().commit) == (0, tip)
    assert "is in bootstrap in dev already" in again.stdout
    commit_state(gitops, **STAGES["stable"], stable=digest, candidate=None, since=SINCE)
    assert "is the stable model in dev already" in propose(tmp_path, "out", "--env", "dev").stdout


def test_a_digest_in_the_store_is_proposed_by_its_card(tmp_path: Path, gitops: GitOps) -> None:
    made = with_card(Workspace(tmp_path / "home").bundles, evaluation_of())
    document = told(propose(tmp_path, made, "--env", "dev", "--json"))
    assert document["decision"]["evidence"] == evaluation_of().model_dump(mode="json", exclude={"curves"})


def test_what_breaks_an_offline_rule_is_recorded_once(tmp_path: Path, gitops: GitOps, digest: str) -> None:
    (tmp_path / "out/evaluation.json").write_text(evaluation_of(gain=-0.2).model_dump_json())
    refused = propose(tmp_path, "out", "--env", "dev", "--now", "2020-01-01T00:00:00Z")
    assert (refused.returncode, len(refused.stdout.splitlines()), refused.stderr) == (3, 1, "")
    assert "FAIL by success auc vs best-baseline" in refused.stdout
    tip = gitops.snapshot().commit
    again = propose(tmp_path, "out", "--env", "dev", "--json", "--now", "2020-01-02T00:00:00Z")
    assert (again.returncode, gitops.snapshot().commit) == (3, tip)
    assert json.loads(again.stdout)["decision"]["now"] == "2020-01-01T00:00:00Z"
    assert not Workspace(tmp_path / "home").bundles.exists(), "what is refused is not stored"


def test_an_evaluation_without_production_cannot_replace_a_model(tmp_path: Path, digest: str) -> None:
    rule = b"offline: [{metric: auc, role: guardrail, against: production, margin: 0.1}, {"
    gitops = seed_workspace(Workspace(tmp_path / "home"), POLICY.replace(b"offline: [{", rule))
    commit_state(gitops, **STAGES["stable"], stable=A, candidate=None, since=SINCE)
    refused = propose(tmp_path, "out", "--env", "dev")
    assert refused.returncode == 3
    assert "INCONCLUSIVE by production: it was never compared with a production model" in refused.stdout


def _damage(home: Path, digest: str) -> tuple[str, ...]:
    (bundle_directory(home / "out", digest) / "model.tflite").write_bytes(b"no model")
    return ("out", "--env", "dev")


def _two(home: Path, digest: str) -> tuple[str, ...]:
    write_tiny_bundle(home / "out", threshold=0.4)
    return ("out", "--env", "dev")


def _another_task(home: Path, digest: str) -> tuple[str, ...]:
    path = bundle_directory(home / "out", digest)
    document = (path / "bundle.json").read_bytes().replace(b'"task":"tiny"', b'"task":"flights"')
    (path / "bundle.json").write_bytes(document)
    path.rename(home / "other")
    return ("other", "--env", "dev", "--evaluation", "out")


def _no_evaluation(home: Path, digest: str) -> tuple[str, ...]:
    (home / "out/evaluation.json").unlink()
    return ("out", "--env", "dev")


def _another_evaluation(home: Path, digest: str) -> tuple[str, ...]:
    (home / "out/evaluation.json").write_text(evaluation_of(threshold=0.25).model_dump_json())
    return ("out", "--env", "dev")


def _another_card(home: Path, digest: str) -> tuple[str, ...]:
    made = with_card(home / "cards", evaluation_of())
    better = {name: one.model_copy(update={"value": 0.99}) for name, one in evaluation_of().metrics.items()}
    (home / "out/evaluation.json").write_text(evaluation_of().model_copy(update={"metrics": better}).model_dump_json())
    return (f"cards/{made.replace(':', '-')}", "--env", "dev", "--evaluation", "out")


def _no_number(home: Path, digest: str) -> tuple[str, ...]:
    (home / "out/evaluation.json").write_text(evaluation_of().model_dump_json().replace("0.75", "NaN"))
    return ("out", "--env", "dev")


def _empty_card(home: Path, digest: str) -> tuple[str, ...]:
    write_tiny_bundle(home / "cards", beside={"card.json": b"{}"})
    return ("cards", "--env", "dev")


def _unstored(home: Path, digest: str) -> tuple[str, ...]:
    return ("sha256:" + "1" * 64, "--env", "dev")


WRONG: dict[str, tuple[Callable[[Path, str], tuple[str, ...]], str]] = {
    "a damaged bundle": (_damage, "model.tflite: has digest"),
    "two bundles": (_two, "out: holds no bundle.json, and 2 bundles"),
    "neither": (lambda *_: ("nowhere", "--env", "dev"), "nowhere: is neither a directory nor a digest"),
    "a short digest": (lambda *_: ("sha256:4f1c", "--env", "dev"), "sha256:4f1c: is neither a directory nor a digest"),
    "a digest that is not stored": (_unstored, "cannot be read"),
    "another task": (_another_task, "is about task 'tiny', and bundle"),
    "no evaluation": (_no_evaluation, "has no evaluation: no card.json is in it, and none was given"),
    "another model's evaluation": (_another_evaluation, "evaluation.json: threshold: is 0.25, of bundle"),
    "better numbers than the card's": (_another_card, "evaluation.json: metrics: is another, of bundle"),
    "an evaluation with NaN": (_no_number, "no number is NaN or infinite"),
    "a card without an evaluation": (_empty_card, "card.json: is not a card with an evaluation"),
    "an unknown environment": (lambda *_: ("out", "--env", "qa"), "environment 'qa': is not in the GitOps repository"),
    "no environment's name": (lambda *_: ("out", "--env", "../dev"), "is not a name"),
    "no store": (lambda *_: ("out", "--env", "dev", "--bundles", ""), "--bundles: is empty"),
    "two evaluations": (
        lambda *_: ("out", "--env", "dev", "--evaluation", "out", "--frame", "out"),
        "--evaluation and --frame: each give an evaluation",
    ),
    "a frame that is none": (
        lambda *_: ("out", "--env", "dev", "--frame", "nowhere", "--task", TASK),
        "manifest.json: cannot be read",
    ),
    "a moment that is none": (lambda *_: ("out", "--env", "dev", "--now", "noon"), "noon"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_in_one_line(tmp_path: Path, untouched: GitOps, digest: str, case: str) -> None:
    change, says = WRONG[case]
    tip = untouched.snapshot().commit
    done = propose(tmp_path, *change(tmp_path, digest), home=Path(untouched.remote).parent)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert untouched.snapshot().commit == tip


def test_what_a_rule_of_the_release_forbids_is_refused_in_one_line(tmp_path: Path, gitops: GitOps, digest: str) -> None:
    commit_state(gitops, **STAGES["shadow"], stable=A, candidate=B, since=SINCE)
    busy = propose(tmp_path, "out", "--env", "dev")
    assert (busy.returncode, len(busy.stderr.splitlines())) == (3, 1)
    assert "one-rollout: bbbbbbbbbbbb is in shadow; one rollout at a time; wait for its end" in busy.stderr
    commit_state(gitops, **STAGES["stable"], candidate=None)
    add_hold(gitops, digest, "audit", "kim", "2020-01-01T00:00:00Z")
    held = propose(tmp_path, "out", "--env", "dev")
    assert (held.returncode, len(held.stderr.splitlines())) == (3, 1)
    assert "hold: " in held.stderr


def test_an_environment_that_another_one_feeds_takes_no_bundle(tmp_path: Path, digest: str) -> None:
    seed_workspace(Workspace(tmp_path / "home"), POLICY + b"promote_from: lab\n")
    done = propose(tmp_path, "out", "--env", "dev")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert "takes only what lab has confirmed" in done.stderr


def write_frame(directory: Path) -> None:
    """Rows of the tiny bundle, whose labels follow what it says of them."""
    directory.mkdir()
    n = 3000
    rows, names = pl.DataFrame(tiny_rows(n)), list(FEATURES.names)
    rng, day = np.random.default_rng(3), np.arange(n) * 60 // n
    store = directory.parent / "out"
    scores = load_bundle(next(store.glob("sha256-*"))).predict(rows.select(names))
    frame = rows.with_columns(day=pl.Series(day)).with_columns(
        example_id=pl.format("row-{}", pl.int_range(n)),
        label=pl.Series((rng.random(n) < scores).astype(np.int8)),
        split=pl.Series(np.where(day < 20, "train", np.where(day < 40, "tune", "test"))),
        slice_colour=pl.col("colour"),
        event_time=pl.datetime(2024, 1, 1, time_zone="UTC") + pl.duration(days="day"),
        shop=pl.lit("a"),
        hour=pl.lit(7),
    )
    frame.write_parquet(directory / "frame.parquet")
    (directory / "manifest.json").write_text(FEATURES.model_dump_json())


def test_an_evaluation_is_made_on_the_spot(tmp_path: Path, gitops: GitOps, digest: str) -> None:
    """Beside baselines and the stable model, with the threshold that it serves with."""
    write_frame(tmp_path / "frame")
    stable = write_tiny_bundle(Workspace(tmp_path / "home").bundles, threshold=0.31)
    commit_state(gitops, **STAGES["stable"], stable=stable, candidate=None, since=SINCE)
    done = propose(tmp_path, "out", "--env", "dev", "--frame", "frame", "--task", TASK, "--json")
    decision = json.loads(done.stdout)["decision"]
    found = Evaluation.model_validate(decision["evidence"] | NO_CURVES)
    assert (found.model, found.threshold, found.n) == ("student_f32", 0.5, 1000)
    assert [peer.name for peer in found.baselines] == ["prior", "rate", "logistic", "trees"]
    assert found.production is not None
    assert (found.production.digest, found.production.difference["auc"].value) == (stable, 0.0)
    assert {part.value for part in found.slices} == {"red", "blue", "green", "(none)"}
    assert [reason["rule"] for reason in decision["reasons"]] == ["success auc vs best-baseline"]
