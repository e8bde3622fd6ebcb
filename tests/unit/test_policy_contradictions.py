"""A policy that asks what is unknown, superfluous or never answered is one line with its key, line and fix; exit 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sluice.errors import BadInput
from sluice.gates.policy import parse_policy
from sluice.gates.registry import KINDS
from sluice.gates.roles import COMPARING
from sluice.schemas import schemas

POLICY = """\
apiVersion: sluice.dev/v1
kind: GatePolicy
task: toy
environment: dev
select: {}
offline: [{metric: auc, role: success, against: best-baseline}]
online:
  alpha: 0.05
  look_every_hours: 12
  shadow:
    minimum_n: 500
    maximum_hours: 72
    rules:
      - {metric: split, role: quality}
      - {metric: error_rate, role: limit, limit: 0.05}
      - {metric: log_loss, role: guardrail, margin: 0.1}
      - {metric: latency, role: guardrail, relative_margin: 0.5}
  canary:
    steps: [10, 50]
    minimum_n: 500
    maximum_hours: 72
    rules: &rules
      - {metric: split, role: quality}
      - {metric: error_rate, role: limit, limit: 0.05}
  confirm:
    minimum_n: 500
    maximum_hours: 72
    rules:
      - {metric: label_coverage, role: quality, limit: 0.9}
"""
LOSS = "metric: log_loss, role: guardrail, margin: 0.1"
LATENCY = "metric: latency, role: guardrail, relative_margin: 0.5"
ERRORS = "metric: error_rate, role: limit, limit: 0.05"
COVERAGE = "metric: label_coverage, role: quality, limit: 0.9"


SHADOW = "rules:\n      - {metric: split, role: quality}\n"
LOOKS = ("shadow.rules.0.per_slice", "fixed looks", "leave out looks")


def refused(old: str, new: str) -> tuple[int, str, str, str]:
    """Line, key, rule and fix of what parsing says to the changed policy."""
    assert POLICY.count(old) >= 1
    with pytest.raises(BadInput) as caught:
        parse_policy(POLICY.replace(old, new, 1).encode(), "P")
    assert "\n" not in str(caught.value)
    where, _, key = caught.value.thing.partition(": ")
    name, _, line = where.partition(", line ")
    assert name == "P"
    return int(line), key, caught.value.rule, caught.value.fix


def test_the_policy_that_the_others_break_is_good() -> None:
    assert len(parse_policy(POLICY.encode(), "P").online.stages) == 3


@pytest.mark.parametrize(
    ("canary", "rule", "text"),
    [
        ("", "metric: log_loss, role: guardrail, margin: 0.1, minimum_n: 6001", "may pass on 6000"),
        ("", "metric: log_loss, role: success, margin: 0.1, minimum_n: 9000", "9000 requests are needed"),
        ("minimum_n: 30", "metric: log_loss, role: guardrail, margin: 0.1", "500 requests are needed, and the stages"),
        ("", "metric: error_rate, role: guardrail, margin: 0.1", "stable, which answers nothing in confirm"),
        ("", "metric: latency, role: deterioration, relative_margin: 1", "stable, which answers nothing in confirm"),
        ("", "metric: latency_p99, role: deterioration, relative_margin: 1", "which answers nothing in confirm"),
        (None, "metric: log_loss, role: guardrail, margin: 0.1, minimum_n: 30", "may pass on 0"),
        (None, "metric: log_loss, role: guardrail, margin: 0.1, per_slice: true", "may pass on 0"),
    ],
)
def test_a_confirm_that_might_never_end_is_refused_or_keeps_a_share_at_stable(
    canary: str | None, rule: str, text: str
) -> None:
    policy = POLICY.replace(COVERAGE, rule)
    if canary is None:
        begin, end = policy.index("  canary:"), policy.index("  confirm:")
        policy = policy[:begin] + policy[end:]
    elif canary:
        policy = policy.replace("steps: [10, 50]\n    minimum_n: 500", f"steps: [10, 50]\n    {canary}")
    with pytest.raises(BadInput) as caught:
        parse_policy(policy.encode(), "P")
    assert caught.value.thing.endswith("confirm.rules.0.metric")
    assert text in caught.value.rule
    assert "add holdback to confirm" in caught.value.fix
    kept = parse_policy(policy.replace("confirm:\n", "confirm:\n    holdback: 5\n").encode(), "P")
    assert kept.online.confirm.holdback == 5


@pytest.mark.parametrize(
    ("rule", "key", "text"),
    [
        ("metric: split, role: quality", "metric", "split cannot be asked in preview"),
        ("metric: log_loss, role: guardrail, margin: 0.1", "metric", "log_loss cannot be asked in preview"),
        ("metric: label_coverage, role: quality, limit: 0.9", "metric", "label_coverage cannot be asked in preview"),
        ("metric: agreement, role: limit, limit: 0.9", "metric", "agreement cannot be asked in preview"),
        ("metric: latency, role: guardrail, relative_margin: 1", "role", "answers other requests than a preview"),
        ("metric: error_rate, role: deterioration, margin: 0.1", "role", "answers other requests than a preview"),
    ],
)
def test_a_preview_is_asked_only_what_it_can_answer_alone(rule: str, key: str, text: str) -> None:
    begin, end = POLICY.index("  canary:"), POLICY.index("  confirm:")
    confirm = POLICY[end:].replace("confirm:\n", "confirm:\n    holdback: 5\n")

    def with_rule(rule: str) -> bytes:
        return f"{POLICY[:begin]}  blue_green: {{maximum_hours: 72, rules: [{{{rule}}}]}}\n{confirm}".encode()

    with pytest.raises(BadInput) as caught:
        parse_policy(with_rule(rule), "P")
    assert caught.value.thing.endswith(f"blue_green.rules.0.{key}")
    assert text in caught.value.rule
    parse_policy(with_rule("metric: error_rate, role: limit, limit: 0.1"), "P")


def test_a_confirm_that_asks_for_what_the_canary_saw_is_good() -> None:
    online = parse_policy(POLICY.replace(COVERAGE, f"{LOSS}, minimum_n: 6000").encode(), "P").online
    assert [rule.minimum_n for rule in online.confirm.rules] == [6000]


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "rule", "fix"),
    [
        (ERRORS, ERRORS.replace("error_rate", "eror_rate"), 15, "shadow.rules.1.metric", "not known", "error_rate?"),
        (ERRORS, "metric: xyz, role: limit, limit: 1", 15, "shadow.rules.1.metric", "not known", "use one of split, p"),
        (LOSS, LOSS.replace("guardrail", "limit"), 16, "shadow.rules.2.role", "cannot be limit", "guardrail"),
        (ERRORS, COVERAGE, 15, "shadow.rules.1.metric", "cannot be asked in shadow", "in confirm"),
        (
            COVERAGE,
            "metric: agreement, role: limit, limit: 0.9",
            29,
            "confirm.rules.0.metric",
            "cannot be asked in confirm",
            "in shadow",
        ),
        (ERRORS, f"{ERRORS}, direction: higher", 15, "shadow.rules.1.direction", "lower is", "write lower"),
        (LATENCY, f"{LATENCY}, margin: 3", 17, "shadow.rules.3.relative_margin", "both margin and", "keep one"),
        (LOSS, f"{LOSS}, limit: 3", 16, "shadow.rules.2.limit", "takes no limit", "leave it out"),
        (ERRORS, "metric: error_rate, role: limit", 15, "shadow.rules.1", "needs limit", "add one"),
        (ERRORS, f"{ERRORS}, margin: 1", 15, "shadow.rules.1.margin", "takes no margin", "leave it out"),
        (LOSS, "metric: log_loss, role: guardrail", 16, "shadow.rules.2", "needs margin", "in nats"),
        (LATENCY, "metric: latency, role: guardrail", 17, "shadow.rules.3", "margin or relative_margin", "in ms"),
        (LOSS, LOSS.replace("0.1", "0"), 16, "shadow.rules.2.margin", "never be shown to be no worse", "success"),
        (LOSS, f"{LOSS}, relative_margin: 0.1", 16, "shadow.rules.2.relative_margin", "takes no rel", "leave it out"),
        (
            ERRORS,
            "metric: error_rate, role: guardrail, relative_margin: 0.5",
            15,
            "shadow.rules.1.relative_margin",
            "stable's value may be 0",
            "leave it out",
        ),
        (ERRORS, ERRORS.replace("0.05", "1.5"), 15, "shadow.rules.1.limit", "between 0 and 1", "write one"),
        (ERRORS, ERRORS.replace("0.05", "0"), 15, "shadow.rules.1.limit", "between 0 and 1", "write one"),
        (COVERAGE, COVERAGE.replace("0.9", "1.1"), 29, "confirm.rules.0.limit", "from 0 to 1", "write one"),
        (
            ERRORS,
            "metric: error_rate, role: guardrail, margin: 1",
            15,
            "shadow.rules.1.margin",
            "no candidate is 1",
            "less than 1",
        ),
        (
            LATENCY,
            "metric: latency_p99, role: guardrail, relative_margin: 0.2",
            17,
            "shadow.rules.3.relative_margin",
            "bins that are 26% wide",
            "more than 0.26",
        ),
        (
            LATENCY,
            "metric: latency, role: success, relative_margin: 1",
            17,
            "shadow.rules.3.relative_margin",
            "better by all",
            "less than 1",
        ),
        (ERRORS, LOSS, 16, "shadow.rules.2.metric", "log_loss is asked as guardrail twice", "stricter"),
        (LATENCY, f"{LATENCY}, per_slice: true", 17, "shadow.rules.3.per_slice", "takes no per_slice", "leave it out"),
        (
            LOSS,
            "metric: log_loss, role: success, margin: 0.1, per_slice: true",
            16,
            "shadow.rules.2.per_slice",
            "says nothing of the others",
            "leave it out",
        ),
        (ERRORS, f"{ERRORS}, beta: 0.1", 15, "shadow.rules.1.beta", "takes no beta", "leave it out"),
        (COVERAGE, f"{COVERAGE}, alpha: 0.1", 29, "confirm.rules.0.alpha", "takes no alpha", "it takes limit"),
        (LOSS, f"{LOSS}, maximum_hours: 80", 16, "shadow.rules.2.maximum_hours", "ends after 72", "leave it out"),
        (
            "maximum_hours: 72",
            "maximum_hours: 72\n    soak_hours: 73",
            13,
            "shadow.soak_hours",
            "only time out",
            "longer",
        ),
        ("maximum_hours: 72", "maximum_hours: 11", 12, "shadow.maximum_hours", "before the first look", "look_every"),
        (
            "look_every_hours: 12",
            "look_every_hours: 12\n  evidence_hours: 11",
            10,
            "evidence_hours",
            "too old after 11 hours and looked at every 12",
            "at least look_every_hours",
        ),
        ("maximum_hours: 72", "maximum_hours: 72\n    looks: 7", 13, "shadow.looks", "7 looks in 72", "at most 6"),
        (
            "maximum_hours: 72",
            "maximum_hours: 20\n    looks: 2",
            13,
            "shadow.looks",
            "2 looks in 20 hours",
            "leave it out",
        ),
        (SHADOW, f"looks: 3\n    rules:\n      - {{{LOSS}, per_slice: true}}\n", 15, *LOOKS),
        ("steps: [10, 50]", "steps: [50, 10]", 19, "canary.steps", "must rise", "sort them"),
        (ERRORS, f"{ERRORS}, marginn: 3", 15, "shadow.rules.1.marginn", "not permitted", "docs/gates.md"),
        (LOSS, LOSS.replace("0.1", "wide"), 16, "shadow.rules.2.margin", "valid number", "docs/gates.md"),
        (
            "    minimum_n: 500\n    maximum_hours: 72\n    rules: &",
            "    rules: &",
            18,
            "canary.minimum_n",
            "req",
            "docs",
        ),
    ],
)
def test_it_is_refused_with_its_line(  # noqa: PLR0917  one argument a column of the table
    old: str, new: str, line: int, key: str, rule: str, fix: str
) -> None:
    found = refused(old, new)
    assert found[:2] == (line, f"online.{key}")
    assert rule in found[2]
    assert fix in found[3]


def test_a_rule_that_came_by_an_alias_is_found_where_it_is_written() -> None:
    text = POLICY.replace("limit: 0.05}\n  confirm", "limit: 7}\n  confirm").replace(
        "rules:\n      - {metric: label_coverage, role: quality, limit: 0.9}", "rules: *rules"
    )
    with pytest.raises(BadInput) as caught:
        parse_policy(text.encode(), "P")
    assert caught.value.thing == "P, line 24: online.canary.rules.1.limit"
    with pytest.raises(BadInput) as caught:
        parse_policy(
            text.replace("limit: 7", "limit: 0.5, maximum_hours: 60")
            .replace("confirm:", "confirm: &c", 1)
            .replace("    maximum_hours: 72\n    rules: *rules", "    maximum_hours: 50\n    rules: *rules")
            .encode(),
            "P",
        )
    assert caught.value.thing == "P, line 24: online.confirm.rules.1.maximum_hours"


def test_the_command_says_it_in_one_line_and_exits_with_2(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.replace(LOSS, f"{LOSS}, limit: 3", 1))
    command = [str(Path(sys.executable).with_name("sluice")), "simulate", str(path), "--rollouts", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "line 16: online.shadow.rules.2.limit: log_loss as guardrail takes no limit" in done.stderr


def test_the_schema_offers_the_metrics_with_what_they_mean() -> None:
    schema = json.loads(schemas()["policy.schema.json"])
    metric = schema["$defs"]["OnlineRule"]["properties"]["metric"]
    assert {one["const"]: one["description"] for one in metric["oneOf"]} == {
        kind.metric: kind.about for kind in KINDS.values()
    }


ROLES = [(metric, role) for metric, kind in KINDS.items() for role in kind.roles]


@pytest.mark.parametrize(("metric", "role"), ROLES)
def test_a_role_compares_or_is_limited_or_asks_for_quality_without_a_bound(metric: str, role: str) -> None:
    kind = KINDS[metric]
    bounds = kind.takes(role) & {"margin", "relative_margin", "limit"}
    limited = role not in COMPARING and bool(kind.limits)
    assert (bounds == {"limit"}) == limited
    assert bool(bounds) == (limited or role in COMPARING)
    assert bounds or role == "quality"
