"""``sluice simulate --replay``: a user's own days as the world, and what each rule does on them."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from sluice.commands import app
from sluice.documents.verdict import Verdict
from sluice.errors import BadInput
from sluice.gates.roles import verdict_of
from sluice.gates.sequential import mean_interval
from sluice.installation import MANIFESTS
from sluice.simulation.pairs import read_pairs
from sluice.simulation.replay import (
    BLOCKS,
    PER_REQUEST,
    RULES,
    SHARED,
    TRUTHS,
    DayTable,
    Draws,
    ShadowTerms,
    contiguous_draws,
    day_table,
    replay,
    resampled_draws,
)
from sluice.simulation.replay_command import Replay, ReplayOptions, replay_pairs
from sluice.simulation.rule_summary import RuleSummary
from sluice.targets.probabilities import calibration_covariates

_POLICY = MANIFESTS / "overlays" / "dev" / "gate-policy.yaml"
_COMMITTED = Path(__file__).parents[1] / "replay_pairs"
_BEGIN = datetime(2020, 1, 1, 3, tzinfo=UTC)
_GUARDRAIL = "- {metric: log_loss, role: guardrail, margin: 0.05}"
_TERMS = ShadowTerms(
    margin=0.1,
    alpha=0.02,
    minimum_n=300,
    minimum_requests=300,
    look_hours=6,
    soak_hours=0,
    maximum_hours=240,
    block_hours=24,
    maturity_hours=6,
)


def _frame(days: int = 60, a_day: int = 60, seed: int = 0) -> pl.DataFrame:
    """Pairs whose days share a surprise; labels come within six hours, nothing is asked between 3 and 4."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), a_day)
    minute = rng.integers(60, 1440, day.size)
    stable = rng.uniform(0.05, 0.6, day.size)
    logit = np.log(stable / (1 - stable)) + rng.normal(0, 0.4, day.size)
    risk = np.clip(stable + 0.15 * rng.normal(size=days)[day], 0.01, 0.99)
    event = [_BEGIN + timedelta(days=int(d), minutes=int(m)) for d, m in zip(day, minute, strict=True)]
    return pl.DataFrame(
        {
            "event_time": event,
            "label_time": [
                at + timedelta(minutes=int(m)) for at, m in zip(event, rng.integers(1, 360, day.size), strict=True)
            ],
            "label": (rng.random(day.size) < risk).astype(np.int8),
            "stable_score": stable,
            "candidate_score": 1 / (1 + np.exp(-logit)),
            "shop": rng.choice(["a", "b"], day.size),
        }
    ).sort("event_time")


def _write(folder: Path, frame: pl.DataFrame) -> Path:
    path = folder / "pairs.parquet"
    frame.write_parquet(path)
    return path


def _table(folder: Path, frame: pl.DataFrame) -> DayTable:
    return day_table(read_pairs(_write(folder, frame)), _TERMS)


def _by(rules: tuple[RuleSummary, ...], truth: str, rule: str) -> RuleSummary:
    (summary,) = (one for one in rules if (one.truth, one.rule) == (truth, rule))
    return summary


def _missed(summary: RuleSummary) -> float:
    assert summary.miscoverage is not None
    return summary.miscoverage.share


def _play(path: Path, rollouts: int, **more: Any) -> Replay:
    return replay_pairs(_POLICY, path, ReplayOptions(rollouts, 0, **more))


# -- counted by request, as other tools do --------------------------------------------------------------------------


@pytest.mark.parametrize("start", [30, 35, 41])
def test_per_request_decides_as_the_gates_sequence_on_the_rows_themselves(tmp_path: Path, start: int) -> None:
    frame = _frame(80)
    table, days = _table(tmp_path, frame), np.arange(start, start + 10)[None]
    rules = replay(table, _TERMS, Draws(np.arange(30)[None], days, days))
    since = _BEGIN + timedelta(days=start)
    rows = frame.filter((pl.col("event_time") >= since) & (pl.col("event_time") < since + timedelta(days=10)))
    label, scores = rows["label"].to_numpy(), [rows[f"{side}_score"].to_numpy() for side in ("stable", "candidate")]
    losses = [-np.log(np.where(label == 1, score, 1 - score)) for score in scores]
    raw = losses[1] - losses[0]
    hours = ((rows["label_time"] - since).dt.total_microseconds() / 3.6e9).to_numpy()
    assert len(TRUTHS) == 4
    for truth, margins in TRUTHS.items():
        difference = raw - raw.mean() + margins * _TERMS.margin
        verdict, at, missed = _looked_at(difference, hours, margins * _TERMS.margin)
        summary = _by(rules, truth, PER_REQUEST)
        shares = summary.promoted.share, summary.rolled_back.share, summary.out_of_time.share
        assert shares == tuple(float(verdict is one) for one in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE))
        assert summary.days == at / 24
        assert summary.miscoverage is not None
        assert summary.miscoverage.share == missed
        until = (rows["event_time"] <= since + timedelta(hours=at)).sum()
        assert summary.requests == until


def _looked_at(difference: Any, hours: Any, truth: float) -> tuple[Verdict, float, float]:
    verdict, at, missed = Verdict.INCONCLUSIVE, _TERMS.maximum_hours, 0.0
    for look in np.arange(6, 241, 6):
        values = difference[hours <= look]
        n = values.size
        if n < 30:
            continue
        interval = mean_interval(float(values.mean()), float(values.var(ddof=1)), n, _TERMS.alpha, _TERMS.minimum_n)
        missed = max(missed, float(not interval.low <= truth <= interval.high))
        now = verdict_of("guardrail", interval, _TERMS.margin, higher=False)
        if now is Verdict.PASS and n < _TERMS.minimum_n:
            now = Verdict.INCONCLUSIVE
        if verdict is Verdict.INCONCLUSIVE and now is not Verdict.INCONCLUSIVE:
            verdict, at = now, float(look)
    return verdict, at, missed


# -- days -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [30, 61, 200])
def test_history_and_replay_share_no_day(days: int) -> None:
    draws = resampled_draws(days, _TERMS, 300, seed=1)
    assert draws.history.shape[1] == min(60, days // 2)
    for history, mine, truth in zip(*draws, strict=True):
        assert not set(history) & set(mine)
        assert set(mine) <= set(truth)
        assert sorted({*history, *truth}) == list(range(days))
    steps = np.diff(draws.days)
    assert 0.4 < (steps == 1).mean() < 0.8  # days follow each other, in runs
    assert np.bincount(draws.days.ravel(), minlength=days).min() > 0


def test_contiguous_rollouts_are_what_followed() -> None:
    draws = contiguous_draws(100, _TERMS)
    assert len(draws.days) == 11
    assert (np.diff(np.c_[draws.history, draws.days]) == 1).all()
    assert (draws.truth[:, 0] == draws.days[:, 0]).all()
    assert draws.truth.shape[1] == 30
    assert draws.truth.max() == 99


def test_labels_that_come_after_a_blocks_time_are_in_no_block(tmp_path: Path) -> None:
    frame = _frame()
    late = frame.with_columns(
        label_time=pl.when(pl.int_range(pl.len()) % 10 == 0)
        .then(pl.col("event_time") + timedelta(days=3))
        .otherwise("label_time")
    )
    table = _table(tmp_path, late)
    assert table.whole.counts.sum() == frame.height
    assert table.blocks.counts.sum() == 0.9 * frame.height
    assert _play(_write(tmp_path, late), 5).in_time == pytest.approx(0.9)


def test_a_decision_is_never_changed_by_what_comes_after_it(tmp_path: Path) -> None:
    frame = _frame(80)
    days = np.arange(40, 50)[None]
    draws = Draws(np.arange(40)[None], days, np.arange(30)[None])  # the truth is not of the rollout's days
    rules = replay(_table(tmp_path, frame), _TERMS, draws)
    assert len(rules) == len(TRUTHS) * len(RULES)
    for summary in rules:
        end = _BEGIN + timedelta(days=40 + summary.days)
        other = frame.with_columns(
            candidate_score=pl.when(pl.col("event_time") > end).then(0.999).otherwise("candidate_score")
        )
        again = _by(replay(_table(tmp_path, other), _TERMS, draws), summary.truth, summary.rule)
        assert (again.promoted, again.rolled_back, again.days) == (summary.promoted, summary.rolled_back, summary.days)


# -- what it finds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "margin_sd"), [("flights", None), ("two-hours-late", 2.0)])
def test_on_the_committed_pairs_blocks_keep_their_word(name: str, margin_sd: float | None) -> None:
    result = _play(_COMMITTED / f"{name}.parquet", 1000, maximum_hours=720, margin_sd=margin_sd)
    at_margin = {rule: _by(result.rules, "at the margin", rule) for rule in RULES}
    assert _missed(at_margin[PER_REQUEST]) > 0.7
    assert at_margin[BLOCKS].promoted.share <= 0.01
    assert at_margin[SHARED].promoted.share <= 0.01
    assert _missed(at_margin[SHARED]) <= 0.03
    equal = _by(result.rules, "equal", SHARED)
    assert equal.promoted.share >= 0.97
    assert equal.rolled_back.share == 0
    assert all(one.wrong == (one.promoted if TRUTHS[one.truth] >= 1 else one.rolled_back) for one in result.rules)
    assert at_margin[PER_REQUEST].promoted != at_margin[PER_REQUEST].rolled_back
    assert equal.days < _by(result.rules, "equal", BLOCKS).days < 15
    assert _by(result.rules, "twice the margin", SHARED).rolled_back.share >= 0.97


def test_requests_counted_promote_one_in_four_at_the_margin_of_flights() -> None:
    result = _play(_COMMITTED / "flights.parquet", 1000, maximum_hours=720)
    assert _by(result.rules, "at the margin", PER_REQUEST).promoted.share > 0.2


def test_on_independent_days_requests_counted_keep_their_word_too(tmp_path: Path) -> None:
    """The replay does not invent dependence: the same losses shuffled over all requests are missed seldom."""
    frame = _frame(120)
    columns = ["label", "stable_score", "candidate_score"]
    mixed = frame.with_columns(frame.select(columns).sample(fraction=1.0, shuffle=True, seed=1))
    rules = replay(_table(tmp_path, mixed), _TERMS, resampled_draws(120, _TERMS, 500, seed=0))
    assert _missed(_by(rules, "at the margin", PER_REQUEST)) <= 0.05


def test_losses_with_covariates_are_played_as_the_scores_that_they_are_made_of(tmp_path: Path) -> None:
    frame = _frame()
    label, stable = frame["label"].cast(pl.Float64).to_numpy(), frame["stable_score"].to_numpy()
    losses = {
        f"{side}_loss": -np.log(np.where(label == 1, frame[f"{side}_score"], 1 - frame[f"{side}_score"]))
        for side in ("stable", "candidate")
    }
    covariates = {f"covariate_{name}": values for name, values in calibration_covariates(label, stable).items()}
    other = frame.select("event_time", "label_time").with_columns(
        **{name: pl.Series(values) for name, values in (losses | covariates).items()}
    )
    mine, theirs = (_table(tmp_path, one) for one in (frame, other))
    assert mine.blocks.names == theirs.blocks.names == ("residual", "residual_logit")
    draws = resampled_draws(60, _TERMS, 100, seed=0)
    assert replay(mine, _TERMS, draws) == replay(theirs, _TERMS, draws)


def test_covariates_are_the_derivatives_of_stables_loss_by_a_shift_and_a_stretch_of_its_logits() -> None:
    label, logit, step = np.array([0.0, 1.0, 1.0]), np.array([-1.5, 0.3, 2.0]), 1e-6

    def loss(logits: Any) -> Any:
        return np.log1p(np.exp(logits)) - label * logits

    covariates = calibration_covariates(label, 1 / (1 + np.exp(-logit)))
    assert covariates["residual"] == pytest.approx(-(loss(logit + step) - loss(logit)) / step, rel=1e-4)
    assert covariates["residual_logit"] == pytest.approx(-(loss(logit * (1 + step)) - loss(logit)) / step, rel=1e-4)


def test_a_time_is_the_same_in_every_zone(tmp_path: Path) -> None:
    frame = _frame()
    other = frame.with_columns(pl.col("event_time").dt.convert_time_zone("America/New_York"))
    mine, theirs = (_play(_write(tmp_path, one), 20).document() for one in (frame, other))
    assert mine == theirs


def test_equal_seeds_play_equal_days_and_others_others(tmp_path: Path) -> None:
    path = _write(tmp_path, _frame())
    first, again, other = (replay_pairs(_POLICY, path, ReplayOptions(50, seed)) for seed in (3, 3, 4))
    assert first.document() == again.document()
    assert first.rules != other.rules


# -- the command ----------------------------------------------------------------------------------------------------


def test_the_command_prints_and_writes_the_table(tmp_path: Path) -> None:
    path, page = _write(tmp_path, _frame()), tmp_path / "page.md"
    page.write_text("before\n<!-- replay-pairs:begin -->\nold\n<!-- replay-pairs:end -->\nafter\n")
    arguments = ["simulate", str(_POLICY), "--replay", str(path), "--rollouts", "20", "--slice", "shop=a"]
    result = CliRunner().invoke(app, [*arguments, "--write", str(page), "--json"])
    document = json.loads(result.stdout)
    assert document["pairs"] == _frame().filter(shop="a").height
    assert [(one["truth"], one["rule"]) for one in document["rules"]] == [(t, r) for t in TRUTHS for r in RULES]
    text = page.read_text()
    assert "old" not in text
    assert text.count("| at the margin |") == 3
    assert "blocks count in time" not in CliRunner().invoke(app, arguments).stdout
    short = CliRunner().invoke(app, [*arguments, "--hours", "36"]).stdout
    assert "Only 2 blocks count in time, and a first look needs 3" in short


_SCORE = pl.lit(0.5)
_BAD_PAIRS: dict[str, tuple[Any, str]] = {
    "naive": ({"event_time": pl.col("event_time").dt.replace_time_zone(None)}, "event_time: has no time zone"),
    "date": ({"label_time": pl.col("label_time").dt.date()}, "label_time: is Date, not a time"),
    "early": ({"label_time": pl.col("event_time") - timedelta(hours=1)}, "label_time: is before event_time in 3,600"),
    "null": ({"label": pl.lit(None, pl.Int8)}, "label: is null in 3,600 rows"),
    "label": ({"label": pl.lit(2)}, "label: has labels from 2 to 2; say by --task"),
    "nan": (
        {"stable_score": pl.lit(math.nan)},
        "stable_score: has what are not probabilities (NaN or outside 0 to 1) in 3,600 rows",
    ),
    "range": (
        {"candidate_score": pl.lit(1.5)},
        "candidate_score: has what are not probabilities (NaN or outside 0 to 1) in 3,600 rows",
    ),
    "text": ({"candidate_score": pl.lit("x")}, "candidate_score: is String, not a number"),
    "large": ({"covariate_x": pl.lit(1e13)}, "covariate_x: has values beyond 1e+12"),
    "twice": ({"covariate_residual": _SCORE}, "covariate_residual: is made of the scores already"),
    "both": ({"stable_loss": _SCORE, "candidate_loss": _SCORE}, "has scores and losses"),
    "unknown": ({"amount": _SCORE}, "amount: is Float64, and nothing that a replay reads; call it covariate_amount"),
    "equal": ({"candidate_score": pl.col("stable_score")}, "has no difference that varies"),
}


@pytest.mark.parametrize("case", list(_BAD_PAIRS))
def test_bad_pairs_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    columns, message = _BAD_PAIRS[case]
    _refuses(message, _write(tmp_path, _frame().with_columns(**columns)))


@pytest.mark.parametrize("column", ["event_time", "label_time", "label", "stable_score"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    _refuses(f"column {column}: is missing; give event_time", _write(tmp_path, _frame().drop(column)))


@pytest.mark.parametrize(("value", "message"), [(-1.0, "has -1, and a loss is at least 0"), (math.inf, "not finite")])
def test_a_loss_out_of_range_is_refused(tmp_path: Path, value: float, message: str) -> None:
    frame = _frame().select("event_time", "label_time", stable_loss=pl.lit(0.1), candidate_loss=pl.lit(value))
    _refuses(f"candidate_loss: {'is ' if value > 0 else ''}{message}", _write(tmp_path, frame))


def test_files_days_and_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.parquet"
    text.write_text("no parquet")
    _refuses("is no parquet file", text)
    _refuses("cannot be read (No such file or directory)", tmp_path / "none.parquet")
    few = _write(tmp_path, _frame(29))
    _refuses("--replay: has 29 days, and 30 are needed", few)
    _refuses("--replay: has 29 days, and 45 are needed", few, contiguous=True)
    _refuses("has no rows", _write(tmp_path, _frame().clear()))
    path = _write(tmp_path, _frame())
    _refuses("--slice label=1: names no text column", path, part="label=1")
    _refuses("has no rows with shop=c", path, part="shop=c")
    _refuses("--margin-sd: is nan", path, margin_sd=math.nan)
    _refuses("--hours: is -1", path, maximum_hours=-1)
    _refuses("maximum_hours: is 12; a block has 24", path, maximum_hours=12)
    _refuses("look_every_hours: is 7, which does not divide a day", path, look_hours=7)


def _refuses(message: str, path: Path, **more: Any) -> None:
    with pytest.raises(BadInput) as caught:
        _play(path, 5, **more)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("margins", "looks", "message"),
    [((), "", "has no loss guardrail of all requests"), ((0.05,), "\n    looks: 5", "online.shadow.looks: is 5")],
)
def test_a_policy_whose_shadow_asks_something_else_is_refused(
    tmp_path: Path, margins: tuple[float, ...], looks: str, message: str
) -> None:
    text = _POLICY.read_text().replace("maximum_hours: 336", f"maximum_hours: 336{looks}", 1)
    for line in ("- {metric: log_loss, role: guardrail, margin: 0.3, per_slice: true, minimum_n: 40}", _GUARDRAIL):
        assert line in text
        text = text if margins and line is _GUARDRAIL else text.replace(line, "", 1)
    policy = tmp_path / "policy.yaml"
    policy.write_text(text)
    with pytest.raises(BadInput, match=message):
        replay_pairs(policy, _write(tmp_path, _frame()), ReplayOptions(5, 0))


def test_options_of_the_other_kind_of_world_are_refused(tmp_path: Path) -> None:
    foreign = (["--replay", "p.parquet", "--world", "equal"], ["--hours", "48"], ["--slice", "a=b"])
    results = [CliRunner().invoke(app, ["simulate", str(_POLICY), *arguments]) for arguments in foreign]
    assert [type(result.exception) for result in results] == [BadInput] * 3
