"""The release file: only states that make sense exist, and a hand edit into nonsense is refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from sluice.documents.state import ReleaseState
from sluice.errors import BadArtifact
from sluice.release.file import parse_holds, parse_release, render_holds, render_release, renderings
from sluice.stages.registry import STAGES
from tests.support.release import HOLD, SINCE, A, B, C, applied_of, state_in

NAME = "manifests/overlays/dev/release/kustomization.yaml"
STATES = [
    state_in("empty"),
    state_in("bootstrap"),
    state_in("shadow"),
    state_in("canary"),
    state_in("canary", 1),
    state_in("preview"),
    state_in("confirm"),
    state_in("stable"),
    *(state_in(stage, paused=True) for stage in ("shadow", "preview", "canary", "confirm")),
]
BEFORE_PAUSES = f"""# Sluice writes this file: one commit a decision. Change it with `sluice`, not by hand.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
components: [../../../strategies/weighted]
configMapGenerator:
- name: release
  literals:
  - "task=toy"
  - "environment=dev"
  - "sequence=4"
  - "rollout=r0004-b"
  - "stage=canary"
  - "step=1"
  - "since=2020-01-01T00:00:00Z"
  - "stable={A}"
  - "candidate={B}"
  - "stable-weight=50"
  - "candidate-weight=50"
  - "mirror-percent=0"
  - "stable-bundle={A.replace(":", "-")}"
  - "candidate-bundle={B.replace(":", "-")}"
  options:
    disableNameSuffixHash: true
""".encode()
"""A release file in the middle of a canary, of the version before a rollout could be paused."""


@pytest.mark.parametrize("state", STATES, ids=lambda state: f"{state.stage}-{state.step}-{state.paused}")
def test_every_state_survives_the_file(state: ReleaseState) -> None:
    text = render_release(state)
    assert parse_release(text, NAME) == state
    assert render_release(parse_release(text, NAME)) == text
    assert text.startswith(b"# Sluice writes this file")


def test_a_file_of_an_older_version_reads_and_stays_byte_for_byte() -> None:
    state = parse_release(BEFORE_PAUSES, NAME)
    assert state == state_in("canary", 1)
    assert renderings(state) == (BEFORE_PAUSES.replace(b"strategies/weighted", b"strategies/canary"), BEFORE_PAUSES)
    assert render_release(state) == renderings(state)[0]


@pytest.mark.parametrize("state", STATES, ids=lambda state: f"{state.stage}-{state.step}-{state.paused}")
def test_a_repository_of_an_older_version_is_written_with_the_folders_that_it_has(state: ReleaseState) -> None:
    text = render_release(state, {"first", "plain", "shadow", "weighted"})
    assert text == renderings(state)[-1]
    assert parse_release(text, NAME) == state
    assert render_release(state, {"first", "weighted", "canary", "blue-green", "plain", "stable"}) in renderings(state)


def test_a_document_of_an_older_version_reads_and_stays_the_same() -> None:
    document = state_in("canary").model_dump(mode="json")
    assert "paused" not in document
    assert ReleaseState.model_validate(document).model_dump(mode="json") == document
    assert state_in("canary", paused=True).model_dump(mode="json") == document | {"paused": True}


def test_an_older_version_refuses_a_pause_by_name_and_loses_nothing() -> None:
    """It knows these keys and no other (its rule is the one for any unknown key)."""
    known = {line.split("=")[0] for line in BEFORE_PAUSES.decode().splitlines() if '- "' in line}
    paused = renderings(state_in("canary", 1, paused=True))[-1]
    new = {line.split("=")[0] for line in paused.decode().splitlines() if '- "' in line}
    assert new - known == {'  - "paused'}
    assert paused.replace(b'  - "paused=true"\n', b"") == BEFORE_PAUSES


@pytest.mark.parametrize(
    ("old", "new", "key", "rule"),
    [
        (b"candidate-weight=10", b"candidate-weight=20", "weights", "do not add up to 100"),
        (b"stage=canary", b"stage=canery", "stage", "got 'canery'"),
        (b"stage=canary", b"stage=shadow", "weights", "stage shadow has (100, 0)"),
        (b"stable=sha256:aaa", b"stable=sha256:xyz", "stable", "pattern"),
        (b"mirror-percent=0", b"mirror-percent=30", "mirror_percent", "stage canary has none"),
        (b"mirror-percent=0", b"mirror-percent=lots", "mirror-percent", "not a whole number"),
        (b'"step=0"', b'"step=0"\n  - "colour=red"', "colour", "unknown key"),
        (b"-percent=0", b'-percent=0"\n  - "paused=false', "paused", "is 'true' or absent"),
        (b"-percent=0", b'-percent=0"\n  - "paused=yes', "paused", "got 'yes'"),
        (b'"step=0"', b'"step=0"\n  - "paused=true"', "", "not what Sluice writes"),
        (b'  - "step=0"\n', b"", "step", "is missing"),
        (b"kind: Component", b"kind: Component\nreplicas: 3", "replicas", "unknown key"),
        (b"strategies/canary", b"strategies/stable", "components", "stage canary needs"),
        (b"candidate-bundle=sha256-bbb", b"candidate-bundle=sha256-ccc", "candidate-bundle", "the digest says"),
        (b"kind: Component", b"kind: [Component", "", "is not YAML"),
        (b"kind: Component", b"kind: Component\n", "", "not what Sluice writes"),
    ],
)
def test_nonsense_is_refused_by_file_key_and_rule(old: bytes, new: bytes, key: str, rule: str) -> None:
    text = render_release(state_in("canary"))
    assert old in text
    with pytest.raises(BadArtifact) as refused:
        parse_release(text.replace(old, new), NAME)
    assert refused.value.thing == (f"{NAME}: {key}" if key else NAME)
    assert rule in refused.value.rule
    assert "last commit" in refused.value.fix


@pytest.mark.parametrize(
    "changed",
    [
        {"stage": "stable"},
        {"stage": "empty"},
        {"candidate": None},
        {"stable": B},
        {"rollout": None},
        {"since": None},
        {"candidate_weight": 100, "stable_weight": 0},
        {"holds": (HOLD.model_copy(update={"digest": B}),)},
        {"holds": (HOLD.model_copy(update={"digest": A}),)},
        {"task": "Not A Label"},
        {"stage": "preview", "stable_weight": 100, "candidate_weight": 0, "mirror_percent": 10},
        {"stage": "preview"},
    ],
    ids=str,
)
def test_a_state_that_contradicts_itself_cannot_be_built(changed: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ReleaseState.model_validate(state_in("canary").model_dump() | changed)


@pytest.mark.parametrize("stage", ["empty", "bootstrap", "stable"])
def test_only_a_stage_that_a_person_can_approve_waits_for_one(stage: str) -> None:
    with pytest.raises(ValidationError, match="never waits for a person"):
        state_in(stage, paused=True)


def test_any_number_of_arms_is_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    roles = ("stable", "candidate", "challenger")
    monkeypatch.setitem(STAGES, "race", replace(STAGES["canary"], name="race", roles=roles))
    weights = zip(roles, (A, B, C), (50, 30, 20), strict=True)
    arms = [{"role": role, "digest": digest, "weight": weight, "mirror": 0} for role, digest, weight in weights]
    document = state_in("canary").model_dump(mode="json") | {"stage": "race"}
    document |= {"stable_weight": 50, "candidate_weight": 30, "arms": arms[2:]}
    state = ReleaseState.model_validate(document)
    assert [arm.model_dump() for arm in state.arms] == arms
    assert state.model_dump(mode="json") == document
    assert parse_release(render_release(state), NAME) == state
    for wrong, rule in (
        ({"arms": []}, "do not add up to 100"),
        ({"arms": 3}, "arms\n  Input should be a valid tuple"),
        ({"arms": [3]}, r"arms.2\n"),
        ({"arms": [arms[2] | {"digest": B}]}, "is the candidate digest"),
        ({"arms": [arms[2] | {"digest": "x"}]}, "is no digest"),
        ({"arms": [arms[2], arms[2] | {"weight": 0}]}, "have a role twice"),
        ({"stage": "canary"}, "challenger: is set, stage canary has none"),
        ({"arms": [arms[2] | {"weight": 0}], "candidate_weight": 50}, "challenger_weight: is 0"),
    ):
        with pytest.raises(ValidationError, match=rule):
            ReleaseState.model_validate(document | wrong)


def test_holds_survive_their_file_whatever_people_write() -> None:
    holds = (HOLD, HOLD.model_copy(update={"digest": A, "reason": 'he said: "no" # [twice]\né'}))
    assert parse_holds(render_holds(holds), "holds.yaml") == holds
    assert parse_holds(render_holds(()), "holds.yaml") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"holds: 3\n", "holds.yaml"),
        (b"holds: []\nmore: 1\n", "more"),
        (render_holds((HOLD, HOLD)), "one digest twice"),
        (render_holds((HOLD,)).replace(b"  by:", b"  who:"), "holds.yaml: 0."),
        (render_holds((HOLD,)).replace(b"ccc", b"c"), "holds.yaml: 0.digest"),
        (b"{}", "holds.yaml"),
    ],
)
def test_nonsense_in_holds_is_refused(text: bytes, said: str) -> None:
    with pytest.raises(BadArtifact, match=said):
        parse_holds(text, "holds.yaml")


def test_the_effect_counts_not_the_intention() -> None:
    state = state_in("canary")
    assert state.is_applied(applied_of(state))
    for wrong in ({"candidate": A}, {"candidate_weight": 0}, {"mirror_percent": 5}, {"stable": None}):
        assert not state.is_applied(applied_of(state, **wrong))
    assert state.since == SINCE
