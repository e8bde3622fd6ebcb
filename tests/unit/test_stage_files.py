"""A strategy is a line, a stage a file and its lines: what is added to a copy of the code takes part in a rollout."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import sluice

_ROOT, _CODE = Path(__file__).parents[2], Path(sluice.__file__).parent
_WALK = """
import importlib, json, sys
from sluice.documents.state import ReleaseState
from sluice.gates.policy import GatePolicy
from sluice.release.file import parse_release, render_release
from sluice.rollout.advance import look, propose
from sluice.rollout.message import commit_message
from tests.support.release import GOOD, POLICY, B, evidence_of, snapshot_of, state_in

kept = POLICY.model_dump(mode="json")
changes = json.loads(sys.argv[1])
online = {key: value for key, value in (kept["online"] | changes).items() if value is not None}
policy = GatePolicy.model_validate(kept | {"online": online})
decision, path = propose(snapshot_of(state_in("stable"), policy), B, GOOD, {}, {}, "2020-01-01T00:00:00Z"), []
for day in range(2, 20):
    state = ReleaseState.model_validate(decision.after)
    assert parse_release(render_release(state), "release") == state
    path.append([decision.action, state.stage, [[arm.role, arm.weight] for arm in state.arms]])
    path[-1].append(commit_message(decision).splitlines()[0])
    if state.rollout is None:
        break
    now = f"2020-01-{day:02d}T00:00:00Z"
    evidence = evidence_of(state, n=0 if state.candidate_weight == 0 else 4000, now=now)
    decision = look(snapshot_of(state, policy), evidence, now, {})
    assert decision, "the look waits"
print(json.dumps({"path": path, "stable": state.stable}))
"""
"""Walks one rollout to its end on evidence that passes, and writes every state into a release file and reads it."""
_HALF = '''
"""Half of the requests go to either side, for as long as the rules need: an A/B test."""

from __future__ import annotations

from sluice.stages.section import OnlineStage
from sluice.stages.stage import RolloutStage, split

HALF = RolloutStage[OnlineStage](
    name="half",
    weights=(50, 50),
    manifests="canary",
    section="half",
    steps=lambda _: (split(50),),
    judge="rules",
    action="start-half",
    subject="{who} answers {weight} %, as stable does",
)
'''


def _changed(copy: Path, original: Path = _CODE) -> set[str]:
    """Names of the files in which a copy differs."""
    seen = filecmp.dircmp(original, copy, ignore=["__pycache__"])
    inner = [_changed(copy / name, original / name) for name in seen.common_dirs]
    return {*seen.diff_files, *seen.left_only, *seen.right_only}.union(*inner)


def _copy(tmp_path: Path, lines: dict[str, str]) -> Path:
    """A copy of the code whose registry has further lines, each below or in place of one that is there."""
    copy = tmp_path / "code" / "sluice"
    shutil.copytree(_CODE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    registry = copy / "stages/registry.py"
    text = registry.read_text()
    for before, after in lines.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    registry.write_text(text)
    return copy


def _walk(copy: Path, **stages: Any) -> dict[str, Any]:
    variables = os.environ | {"PYTHONPATH": f"{copy.parent}{os.pathsep}{_ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", _WALK, json.dumps(stages)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_strategy_of_stages_that_there_are_is_one_line(tmp_path: Path) -> None:
    line = '    Strategy("shadow", (SHADOW, CONFIRM)),\n'
    copy = _copy(tmp_path, {line: line + '    Strategy("ready, then canary", (PREVIEW, CANARY, CONFIRM)),\n'})
    rollout = _walk(copy, shadow=None, blue_green={"maximum_hours": 72})
    assert [step[:2] for step in rollout["path"]] == [
        ["start-preview", "preview"],
        ["set-weight", "canary"],
        ["set-weight", "canary"],
        ["promote", "confirm"],
        ["confirm", "drain"],
    ]
    assert rollout["stable"].startswith("sha256:bb")
    assert _changed(copy) == {"registry.py"}


def test_a_stage_is_one_file_and_its_lines_in_the_registry(tmp_path: Path) -> None:
    copy = _copy(
        tmp_path,
        {
            "import PREVIEW, BlueGreenStage\n": "import PREVIEW, BlueGreenStage\nfrom sluice.stages.half import HALF\n",
            "CANARY, CONFIRM, DRAIN": "CANARY, HALF, CONFIRM, DRAIN",
            "    confirm: ConfirmStage\n": "    confirm: ConfirmStage\n    half: OnlineStage | None = None\n",
            "section import PolicyModel\n": "section import OnlineStage, PolicyModel\n",
            '    Strategy("canary", (': '    Strategy("a/b", (HALF, CONFIRM)),\n    Strategy("canary", (',
        },
    )
    (copy / "stages/half.py").write_text(_HALF)
    rules = [{"metric": "split", "role": "quality"}, {"metric": "log_loss", "role": "guardrail", "margin": 0.1}]
    rollout = _walk(copy, shadow=None, canary=None, half={"minimum_n": 500, "maximum_hours": 72, "rules": rules})
    digest = "b" * 12
    assert rollout["path"] == [
        [
            "start-half",
            "half",
            [["stable", 50], ["candidate", 50]],
            f"toy dev: {digest} answers 50 %, as stable does  PASS",
        ],
        ["promote", "confirm", [["stable", 0], ["candidate", 100]], "toy dev: half 50 -> 100 %, old side warm  PASS"],
        ["confirm", "drain", [["stable", 100], ["leftover", 0]], f"toy dev: {digest} confirmed as stable  PASS"],
    ]
    assert _changed(copy) == {"registry.py", "half.py"}
