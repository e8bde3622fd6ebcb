"""The tables of ``docs/gates.md`` say what the code takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sluice.gates.online_policy import Online
from sluice.gates.policy import parse_policy
from sluice.gates.registry import KINDS
from sluice.gates.roles import COMPARING
from sluice.gates.rule_kind import RuleKind
from sluice.stages.canary import CanaryStage
from sluice.stages.confirm import ConfirmStage
from sluice.stages.preview import BlueGreenStage
from sluice.stages.registry import STAGES
from sluice.stages.section import OnlineRule
from sluice.stages.shadow import ShadowStage

PAGE = (Path(__file__).parents[2] / "docs" / "gates.md").read_text()


JUDGED = tuple(name for name, stage in STAGES.items() if stage.judge in ("rules", "servers"))


def _row(kind: RuleKind) -> str:
    stages = "all" if kind.stages == JUDGED else ", ".join(kind.stages)
    keys = sorted({key for role in kind.roles for key in kind.takes(role)})
    roles = ", ".join(kind.roles)
    told = ", ".join(f"`{key}`" for key in keys)
    return f"| `{kind.metric}` | {roles} | {stages} | {kind.unit}, {kind.direction} | {told} | {kind.about} |"


def test_every_kind_of_rule_is_in_the_table() -> None:
    wanted = "\n".join(_row(kind) for kind in KINDS.values())
    assert wanted in PAGE, f"the table of metrics should hold\n{wanted}"


@pytest.mark.parametrize("model", [Online, OnlineRule, ShadowStage, CanaryStage, BlueGreenStage, ConfirmStage])
def test_every_key_is_explained(model: type) -> None:
    missing = [key for key in model.model_fields if f"`{key}`" not in PAGE]  # type: ignore[attr-defined]
    assert not missing


def test_the_examples_of_the_page_are_policies() -> None:
    blocks = re.findall(r"```yaml\n(online:.*?)```", PAGE, re.DOTALL)
    head = "apiVersion: sluice.dev/v1\nkind: GatePolicy\ntask: toy\nenvironment: dev\nselect: {}\n"
    offline = "offline: [{metric: auc, role: success, against: best-baseline}]\n"
    assert blocks
    for block in blocks:
        parse_policy((head + offline + block).encode(), "docs/gates.md")


def test_comparing_roles_are_those_that_take_a_margin() -> None:
    pairs = [(kind, role) for kind in KINDS.values() for role in kind.roles]
    with_margin = {(kind.metric, role) for kind, role in pairs if "margin" in kind.takes(role)}
    assert with_margin == {(kind.metric, role) for kind, role in pairs if role in COMPARING} != set()
