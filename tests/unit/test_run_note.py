"""What the note of a run says, from KFP's state and from what the pods of the run's steps keep of their ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sluice.errors import BadInput, Refused
from sluice.steps import ending
from sluice.steps.ending import EndingKind, StepEnding, say
from sluice.steps.error_boundary import exit_on_error
from sluice.steps.exit_note import exit_note
from sluice_cluster.run_pods import endings, endings_if_readable

REFUSAL = "flights-all: FAIL by rule auc: 0.61 < 0.7"


def pod(step: str, message: str = "", exit_code: int = 0, minute: int = 0, **status: Any) -> dict[str, Any]:
    """A pod of a step as the API server has it once it ended."""
    terminated = {"exitCode": exit_code, "message": message, "finishedAt": f"2026-01-01T00:{minute:02}:30Z"}
    terminated |= {"reason": "Error"} if exit_code else {"reason": "Completed"}
    terminated |= status.pop("terminated", {})
    return {
        "metadata": {"creationTimestamp": f"2026-01-01T00:{minute:02}:00Z", "labels": {"sluice.dev/step": step}},
        "status": {
            "phase": "Failed" if exit_code else "Succeeded",
            "containerStatuses": [
                {"name": "wait", "state": {"terminated": {"exitCode": 0}}},
                {"name": "main", "state": {"terminated": terminated}},
            ],
            **status,
        },
    }


TRAINED = [pod("check"), pod("train", minute=1), pod("evaluate", minute=2)]


def note(state: str, pods: list[dict[str, Any]]) -> str:
    """The line of the log; the page says the same."""
    page, line = exit_note("r1", state, "exit-handler-1", None, endings(pods))
    assert page.startswith("# Run r1")
    return line


@pytest.mark.parametrize("step", ["gate", "infra-validate", "release", "promote"])
@pytest.mark.parametrize("state", ["COMPLETE", "SUCCEEDED", "RUNNING"])
def test_a_refusal_is_told_by_its_rule_and_is_no_failure(step: str, state: str) -> None:
    pods = [*TRAINED, pod(step, f"sluice: Refused: {REFUSAL}", minute=3), pod("refused", minute=4)]
    assert note(state, pods) == f"run r1: refused by {step}: {REFUSAL}"
    assert "Nothing is broken" in exit_note("r1", state, None, None, endings(pods))[0]


@pytest.mark.parametrize(
    ("pods", "line"),
    [
        ([pod("watch", "sluice: NotDue: no trigger fires")], "ended well, not due by watch: no trigger fires"),
        ([pod("gate", "sluice: Done: PASS", minute=1), pod("release", "sluice: Done: bootstrap: sha256:1", minute=2)],
         "ended well; bootstrap: sha256:1"),
        ([pod("materialize", "sluice: Done: 0 keys are up to date")], "ended well; 0 keys are up to date"),
    ],
)  # fmt: skip
def test_the_usual_ends_are_told_even_where_kfp_knows_no_state(pods: list[dict[str, Any]], line: str) -> None:
    assert note("RUNNING", [*TRAINED, *pods]) == f"run r1: {line}"


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (pod("ingest", "sluice: BadInput: source: is another; x", 1, 5), "ingest: BadInput: source: is another"),
        (pod("validate", "sluice: ValueError: no", 1, 5), "validate: ValueError: no"),
        (pod("train", "", 137, 5, terminated={"reason": "OOMKilled"}), "train: OOMKilled, exit code 137"),
        (pod("train", "", 143, 5, reason="DeadlineExceeded"), "train: DeadlineExceeded, exit code 143"),
        (pod("compress", "", 1, 5), "compress: exit code 1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("state", ["FAILED", "RUNNING"])
def test_a_failure_names_its_step_and_why(last: dict[str, Any], words: str, state: str) -> None:
    assert note(state, [*TRAINED, last]).startswith(f"run r1: failed in {words}")


def test_a_step_that_a_second_try_mended_did_not_fail() -> None:
    tries = [pod("train", "", 137, 3), pod("train", minute=4), pod("release", "sluice: Done: bootstrap: d", minute=5)]
    assert note("COMPLETE", tries) == "run r1: ended well; bootstrap: d"
    assert "failed in train" in note("COMPLETE", [pod("train", minute=3), pod("train", "", 137, 4)])


def test_a_pod_that_lost_its_node_has_no_container_and_is_named_too() -> None:
    gone = pod("train", minute=5)
    gone["status"] = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."}
    assert note("FAILED", [*TRAINED, gone]) == "run r1: failed in train: Evicted, The node was low on memory."


@pytest.mark.parametrize("state", ["SUCCEEDED", "COMPLETE", "CACHED"])
def test_without_pods_a_state_that_says_well_is_believed(state: str) -> None:
    assert endings_if_readable("run")[0] == []
    page, line = exit_note("r1", state, "exit-handler-1", None)
    assert line == "run r1: ended well"
    assert page.startswith("# Run r1 ended well\n")


def test_without_pods_a_state_that_tells_neither_is_not_called_a_failure_nor_a_success() -> None:
    page, line = exit_note("r1", "RUNNING", "exit-handler-1", None)
    assert line == "run r1: ended, no step told of a failure (state RUNNING)"
    assert "ended well" not in page
    assert "If a step is red" in page


def test_without_pods_a_failure_says_what_kfp_says() -> None:
    page, line = exit_note("r1", "FAILED", "gate", "exit\ncode 3")
    assert line == "run r1: failed: exit code 3"
    assert "`gate`" in page


def test_a_step_leaves_its_last_line_to_its_pod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "termination-log"
    monkeypatch.setattr(ending, "TERMINATION_LOG", kept)
    say(EndingKind.REFUSED, "why")
    assert not kept.exists(), "outside a container there is nothing to write to"
    kept.touch()
    for error, words in (
        (BadInput("a", "b\nc", "d"), r"BadInput: a: b\nc; d"),
        (Refused("a", "b", "c"), "Refused: a: b; c"),
    ):
        with pytest.raises(SystemExit), exit_on_error():
            raise error
        assert kept.read_text() == f"sluice: {words}"
        assert capsys.readouterr().err.splitlines()[-1] == f"sluice: {words}"
    with pytest.raises(ZeroDivisionError), exit_on_error():
        _ = 1 / 0
    assert StepEnding.of_message("s", kept.read_text(), failed=True) == StepEnding(
        "s", True, "ZeroDivisionError", "division by zero"
    )
    say(EndingKind.DONE, "x" * 9999)
    assert len(kept.read_bytes()) == 4096
