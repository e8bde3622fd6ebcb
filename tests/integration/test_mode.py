"""What an overlay's options cannot render is refused before the commit, by mode, field and fix."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sluice.errors import BadInput
from sluice.gates.policy import GatePolicy
from sluice.gitops.fleet import read_fleet
from sluice.gitops.writer import GitOps
from sluice.release.mode import options_of, require_expressible
from sluice.rollout.advance import propose
from tests.support.policy import policy_with
from tests.support.release import GOOD, POLICY, SINCE, A, sample_checkout

ROOT = Path(__file__).parents[2]
OVERLAY = "manifests/overlays/dev/kustomization.yaml"
CANARY, BLUE = policy_with(canary={}), policy_with(blue_green={})


def _with(*options: str) -> bytes:
    more = "".join(f"../../options/{option}, " for option in options)
    text = (ROOT / OVERLAY).read_text()
    assert "[release, " in text
    return text.replace("[release, ", f"[release, {more}").encode()


@pytest.mark.parametrize("options", [(), ("knative",), ("gate", "kserve-canary"), ("keda", "gate")])
def test_the_options_of_an_overlay_are_its_components(options: tuple[str, ...]) -> None:
    assert options_of(_with(*options), "any") == options


@pytest.mark.parametrize("text", [b"- 1", b"components: [", b"components: 7", b"text"])
def test_a_kustomization_that_is_none_is_named(text: bytes) -> None:
    with pytest.raises(BadInput, match="any: is not a kustomization"):
        options_of(text, "any")


@pytest.mark.parametrize("policy", [CANARY, BLUE])
@pytest.mark.parametrize("options", [("knative",), ("kserve-canary",), ("gate", "keda")])
def test_what_a_mode_can_render_is_accepted(options: tuple[str, ...], policy: GatePolicy) -> None:
    assert _is_expressible(policy, options)
    assert _is_expressible(POLICY, ("gate", "keda"))


def _is_expressible(policy: GatePolicy, options: tuple[str, ...]) -> bool:
    try:
        require_expressible(policy, options, "policy", "overlay")
    except BadInput:
        return False
    return True


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("knative",), r"policy: online.shadow: mirrors requests, which Knative's canaryTrafficPercent cannot"),
        (("gate", "kserve-canary"), r"which KServe's spec.canary cannot \(option kserve-canary in overlay\); leave"),
        (("kserve-canary", "knative"), r"overlay: components: has both options kserve-canary and knative"),
        (("knative", "keda"), r"overlay: components: has both options keda and knative"),
    ],
)
def test_what_it_would_leave_out_is_refused(options: tuple[str, ...], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        require_expressible(POLICY, options, "policy", "overlay")


def test_rules_of_a_preview_want_a_host_for_it() -> None:
    asking = policy_with(blue_green={"rules": [{"metric": "error_rate", "role": "limit", "limit": 0.1}]})
    assert _is_expressible(asking, ("kserve-canary",))
    with pytest.raises(BadInput, match=r"online.blue_green.rules: asks of a preview, which Knative's revisions have"):
        require_expressible(asking, ("knative",), "policy", "overlay")


@pytest.mark.parametrize("option", ["knative", "kserve-canary"])
def test_nothing_is_committed_that_the_overlay_cannot_render(tmp_path: Path, option: str) -> None:
    shutil.copytree(sample_checkout(), tmp_path / "checkout")
    (tmp_path / "checkout" / OVERLAY).write_bytes(_with(option))
    gitops = GitOps(tmp_path / "gitops.git", "dev")
    tip = gitops.seed(tmp_path / "checkout")
    says = rf"overlays/dev/gate-policy.yaml: online.shadow: .*option {option} in manifests/overlays/dev/kust"
    with pytest.raises(BadInput, match=says):
        gitops.commit(lambda snapshot: propose(snapshot, A, GOOD, {}, {}, SINCE))
    problem = read_fleet(gitops.remote).problems["dev"]
    assert problem.thing == "manifests/overlays/dev/gate-policy.yaml: online.shadow"
    with gitops.clone.lock():
        assert gitops.clone.fetch() == tip
