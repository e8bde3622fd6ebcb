"""Evidence from prediction windows: the right rows, only labels that were known, and the same bytes every time."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sluice.data.divergence import profile_of
from sluice.documents.event_time import iso
from sluice.documents.evidence import LABEL_DELAY_BOUNDS_S, LATENCY_BOUNDS_MS, Arm, Evidence
from sluice.documents.state import ReleaseState
from sluice.errors import BadArtifact
from sluice.evidence.collect import collect_evidence
from sluice.predictions.log import WINDOW_SCHEMA, window_path, write_window
from sluice.predictions.windows import list_windows, read_window
from sluice.tasks.task import Slice
from tests.support.release import A, B, C, applied_of, state_in

START = datetime(2020, 1, 1, tzinfo=UTC)
NOW = START + timedelta(hours=20)
PROFILES = {"speed": profile_of(pl.Series("speed", [float(k % 50) for k in range(2000)]))}


def _row(number: int, route: str, digest: str, **changed: Any) -> dict[str, Any]:
    return {
        "request_id": f"q{number:05d}",
        "event_time": START + timedelta(minutes=number),
        "route": route,
        "digest": digest,
        "score": 0.25 if digest == A else 0.5,
        "status": 200,
        "latency_ms": 1.0 + number % 3,
        "features": json.dumps({"speed": float(number % 50)}),
        "missing": 0,
        "stale": 0,
        "keys": "{}",
        "rollout": "r0004-b",
    } | changed


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict(WINDOW_SCHEMA))


def _labels(n: int, delay: timedelta = timedelta(hours=1)) -> pl.DataFrame:
    times = [START + timedelta(minutes=k) + delay for k in range(n)]
    return pl.DataFrame(
        {"example_id": [f"q{k:05d}" for k in range(n)], "label": [k % 4 == 0 for k in range(n)], "label_time": times},
        schema={"example_id": pl.String, "label": pl.Int8, "label_time": pl.Datetime("us", "UTC")},
    )


def _collect(
    rows: list[dict[str, Any]], state: ReleaseState, labels: pl.DataFrame | None = None, **more: Any
) -> Evidence:
    labels = _labels(2000) if labels is None else labels
    return collect_evidence(
        _frame(rows), labels, state, applied_of(state), PROFILES, now=NOW, label_maturity_hours=6, **more
    )


def _shadow(n: int = 600) -> list[dict[str, Any]]:
    return [row for k in range(n) for row in (_row(k, "stable", A), _row(k, "shadow", B))]


def test_shadow_compares_the_same_requests() -> None:
    found = _collect(_shadow(), state_in("shadow"))
    assert found.candidate is not None
    assert found.candidate.n == 600
    assert found.split == (0, 600)
    assert found.pairs.shift is not None
    assert (found.pairs.shift.n, found.pairs.shift.mean, found.pairs.shift.variance) == (600, 0.25, 0.0)
    assert found.pairs.loss is not None
    late, early = math.log(2) + math.log(0.25), math.log(2) + math.log(0.75)
    assert found.pairs.loss.mean == pytest.approx(0.25 * late + 0.75 * early)


def test_labels_from_the_future_are_not_seen() -> None:
    found = _collect(_shadow(), state_in("shadow"), _labels(600, timedelta(hours=15)))
    assert found.candidate is not None
    assert found.pairs.loss is not None
    assert found.pairs.loss.n == 20 * 60 - 15 * 60 + 1
    assert (found.candidate.due, found.candidate.labelled) == (600, 301)


def test_delays_are_counted_of_the_labels_that_are_in() -> None:
    hour = timedelta(hours=1)
    late = [timedelta(0), timedelta(seconds=-5), timedelta(minutes=1), hour, hour + timedelta(microseconds=1), 9 * hour]
    labels = _labels(600).with_columns(label_time=pl.col("label_time") - hour)
    known = labels.head(6).with_columns(label_time=pl.col("label_time") + pl.Series(late))
    never = labels[6:].with_columns(label=pl.lit(None, pl.Int8))
    rows = _shadow()
    rows[0] |= {"score": None, "status": 500}  # nothing to label
    found = _collect(rows, state_in("shadow"), pl.concat([known, never]))
    assert found.stable is not None
    assert found.stable.delays is not None
    bins = dict(zip((*LABEL_DELAY_BOUNDS_S, math.inf), found.stable.delays.counts, strict=True))
    assert {end: n for end, n in bins.items() if n} == {60: 2, 3600: 1, 3 * 3600: 1, 12 * 3600: 1}
    assert found.stable.delays.seconds == pytest.approx(60 + 2 * 3600 + 9 * 3600)
    assert found.candidate is not None
    assert found.candidate.delays is not None
    assert sum(found.candidate.delays.counts) == 6
    nothing = _collect(rows, state_in("shadow"), labels.head(0))
    assert (nothing.stable or found.stable).delays is None


def test_late_labels_of_other_delays_leave_the_digest_alone() -> None:
    early = _collect(_shadow(), state_in("shadow"))
    late = _collect(_shadow(), state_in("shadow"), _labels(600, timedelta(hours=2)))
    assert early.candidate != late.candidate
    assert early.digest == late.digest


def test_errors_and_answers_without_a_score_count() -> None:
    rows = _shadow(10)
    rows[1] |= {"status": 503, "score": None, "digest": ""}
    rows[3] |= {"score": float("nan")}
    rows[5] |= {"status": 400, "score": None}
    found = _collect(rows, state_in("shadow"))
    assert found.candidate is not None
    assert (found.candidate.n, found.candidate.errors, found.candidate.answered) == (10, 3, 7)


def _refused(row: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return row | {"score": None, "status": 400, "latency_ms": 90.0, "features": "{}", "keys": "{}"} | changed


def test_what_stable_answers_and_the_candidate_refuses_is_its_failure() -> None:
    rows = _shadow(100)
    rows[1::20] = [_refused(row) for row in rows[1::20]]  # 10 of the candidate's, with all five that stable fails on
    rows[0:100:20] = [row | {"score": None, "status": 500} for row in rows[0:100:20]]
    found = _collect(rows, state_in("shadow"))
    ours, theirs = found.candidate, found.stable
    assert ours is not None
    assert theirs is not None
    assert (ours.n, ours.errors, ours.refused, ours.refused_alone, ours.asked, ours.answered) == (100, 5, 10, 5, 95, 90)
    assert (theirs.n, theirs.errors, theirs.refused, theirs.answered) == (100, 5, 0, 95)
    assert (found.split, found.skew_n) == ((0, 100), 90)
    assert found.skew == _collect([row for row in rows if row["status"] == 200], state_in("shadow")).skew
    assert found.timings.candidate is not None
    assert (found.timings.candidate.n, found.timings.candidate.mean < 3) == (90, True)
    assert found.timings.candidate_bins is not None
    assert found.timings.candidate_bins.n == 90


def test_where_users_are_split_a_refusal_is_nobodys_failure_and_no_evidence() -> None:
    rows = [_row(k, "stable", A) for k in range(90)] + [_row(k, "candidate", B) for k in range(90, 120)]
    rows[50:60] = [_refused(row) for row in rows[50:60]]
    rows[100:] = [_refused(row) for row in rows[100:]]
    found = _collect(rows, state_in("canary", candidate_weight=25, stable_weight=75))
    arms = {side: (arm.n, arm.errors, arm.refused, arm.answered) for side, arm in found.arms.items()}
    assert arms == {"candidate": (30, 0, 20, 10), "stable": (90, 0, 10, 80)}
    assert (found.split, found.foreign) == ((90, 30), 0)
    assert found.candidate is not None
    assert found.candidate.last == iso(START + timedelta(minutes=99)), "the newest that was not refused"


def test_rows_of_one_request_are_refused_with_it_whatever_could_be_counted_of_them() -> None:
    batch = [_row(k, "stable", A, request_id=f"q#{k}") for k in range(3)]
    same = [_refused(_row(k, "shadow", B, request_id=f"q#{k}")) for k in range(3)]
    whole = [_refused(_row(0, "shadow", B, request_id="q"), status=413)]
    gone = [_refused(_row(0, "shadow", B, request_id="q"), status=499)]
    other = [_refused(_row(0, "shadow", B, request_id="p#0"))]
    found = [_collect(batch + copies, state_in("shadow")).candidate for copies in (same, whole, gone, other)]
    assert [(arm.refused, arm.refused_alone) for arm in found if arm] == [(3, 3), (1, 1), (1, 0), (1, 0)]


def test_a_slice_has_the_requests_that_were_refused_alone_in_it() -> None:
    rows = [row for k in range(60) for row in (_in_shop(k, "stable", A), _in_shop(k, "shadow", B))]
    oak = '{"shop": "oak"}'
    rows = [_refused(row) if row["route"] == "shadow" and row["keys"] == oak else row for row in rows]
    found = _collect(rows, state_in("shadow"), slices=(Slice("shop", "shop"),), carried={"shop": pl.String})
    shares = {name: part.candidate and (part.candidate.n, part.candidate.hits) for name, part in found.slices.items()}
    assert shares == {"shop=elm": (30, 0), "shop=oak": (30, 30)}


def _in_shop(number: int, route: str, digest: str) -> dict[str, Any]:
    return _row(number, route, digest, keys=json.dumps({"shop": "oak" if number % 2 else "elm"}))


def test_documents_without_refusals_are_what_they_were() -> None:
    found = _collect(_shadow(), state_in("shadow"))
    assert "refused" not in found.model_dump_json()
    assert found == Evidence.model_validate_json(found.model_dump_json())
    with pytest.raises(ValueError, match="refused_alone is 2, of 1 refused, 5 errors"):
        Arm.model_validate(_arm_of(found) | {"errors": 5, "refused": 1, "refused_alone": 2})
    with pytest.raises(ValueError, match="errors and refused are 5 and 600, of 600 requests"):
        Arm.model_validate(_arm_of(found) | {"errors": 5, "refused": 600})


def _arm_of(found: Evidence) -> dict[str, Any]:
    assert found.candidate is not None
    return found.candidate.model_dump()


def test_answers_of_another_digest_are_counted_and_left_out() -> None:
    rows = [*_shadow(10), _row(11, "shadow", C), _row(12, "stable", B)]
    found = _collect(rows, state_in("shadow"))
    assert found.foreign == 2
    assert found.candidate is not None
    assert found.candidate.n == 10


def test_lost_mirrors_show_in_the_split() -> None:
    assert _collect(_shadow(100) + [_row(k, "stable", A) for k in range(100, 150)], state_in("shadow")).split == (
        50,
        100,
    )


def test_a_canary_counts_only_its_own_step() -> None:
    since = (START + timedelta(minutes=300)).isoformat().replace("+00:00", "Z")
    rows = [_row(k, *(("candidate", B) if k % 10 == 0 else ("stable", A))) for k in range(600)]
    found = _collect([*_shadow(50), *rows], state_in("canary", since=since))
    assert found.split == (270, 30)
    assert [stratum.candidate.n for stratum in found.strata] == [30]


def test_confirm_looks_back_to_the_canary_for_labels() -> None:
    since = (START + timedelta(minutes=300)).isoformat().replace("+00:00", "Z")
    canary = [_row(k, *(("candidate", B) if k % 2 == 0 else ("stable", A))) for k in range(300)]
    confirm = [_row(k, "candidate", B) for k in range(300, 500)]
    found = _collect([*canary, *confirm], state_in("confirm", since=since))
    assert found.candidate is not None
    assert (found.candidate.n, found.candidate.due) == (200, 350)
    assert [stratum.stable.n for stratum in found.strata] == [150]
    assert found.stable is not None
    assert found.stable.delays is not None
    assert sum(found.stable.delays.counts) == 150


def test_what_a_preview_was_asked_counts_there_and_never_after_the_switch() -> None:
    since = (START + timedelta(minutes=100)).isoformat().replace("+00:00", "Z")
    users = [_row(k, "stable", A) for k in range(100)]
    checks = [_row(k, "preview", B, request_id=f"check{k}", status=500 * (k < 5)) for k in range(40)]
    seen = _collect([*users, *checks], state_in("preview")).candidate
    assert seen is not None
    assert (seen.n, seen.errors) == (40, 5)
    rows = [*users, *checks, *(_row(k, "candidate", B) for k in range(100, 160))]
    confirm = _collect(rows, state_in("confirm", since=since)).candidate
    assert confirm is not None
    assert (confirm.n, confirm.errors, confirm.due, confirm.labelled) == (60, 0, 60, 60)


def test_a_changed_unit_shows_as_skew() -> None:
    rows = _shadow(300)
    for row in rows:
        row["features"] = json.dumps({"speed": json.loads(row["features"])["speed"] * 60})
    assert _collect(rows, state_in("shadow")).skew["speed"] > 0.5
    assert _collect(_shadow(300), state_in("shadow")).skew["speed"] < 0.05


def test_timings_and_order_leave_the_digest_alone() -> None:
    rows = _shadow(200)
    first = _collect(rows, state_in("shadow"))
    slower = [row | {"latency_ms": 99.0} for row in reversed(rows)]
    second = _collect(slower, state_in("shadow"))
    assert first.timings != second.timings
    assert first.digest == second.digest
    assert _collect(rows[:-1], state_in("shadow")).digest != first.digest


def test_no_traffic_is_evidence_of_nothing() -> None:
    found = _collect([], state_in("canary"))
    assert found.candidate is not None
    assert (found.candidate.n, found.skew, found.strata, found.pairs.shift) == (0, {}, (), None)


@pytest.mark.parametrize("damage", ["truncated", "no column", "name"])
def test_a_broken_window_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    path = window_path(tmp_path, START, NOW)
    write_window(path, _frame(_shadow(50)))
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "no column":
        pl.read_parquet(path).drop("score").write_parquet(path)
    else:
        path = path.rename(tmp_path / "yesterday.parquet")
    with pytest.raises(BadArtifact, match=path.name):
        [read_window(window) for window in list_windows(tmp_path)]


SLICES = (Slice("shop", "shop"), Slice("pace", "CASE WHEN speed < 25 THEN 'slow' ELSE 'fast' END"))
CARRIED = {"shop": pl.String}


def _in_shops(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"keys": json.dumps({"shop": "oak" if k // 2 % 3 == 0 else "elm"})} for k, row in enumerate(rows)]


def test_a_slice_counts_its_own_requests_only() -> None:
    rows = _in_shops(_shadow(600))
    for row in rows[::60]:
        row |= {"status": 500, "score": None, "features": "{}"}  # every tenth pair from the first on: all of oak
    found = _collect(rows, state_in("shadow"), slices=SLICES, carried=CARRIED)
    assert list(found.slices) == ["shop=elm", "shop=oak", "pace=fast", "pace=slow"]
    oak, elm = found.slices["shop=oak"], found.slices["shop=elm"]
    assert oak.stable is not None
    assert elm.stable is not None
    assert ((oak.stable.n, oak.stable.hits), (elm.stable.n, elm.stable.hits)) == ((200, 20), (400, 0))
    parts = [found.slices[f"pace={pace}"].stable for pace in ("fast", "slow")]
    assert [(part.n, part.hits) for part in parts if part] == [(292, 0), (288, 0)], "no features, no pace"
    apart = [found.slices[f"shop={shop}"] for shop in ("oak", "elm")]
    assert [stratum.candidate.n for part in apart for stratum in part.strata] == [200, 400]
    assert [part.pairs.n for part in apart if part.pairs] == [180, 400]
    assert found.pairs.loss is not None
    whole = sum(part.pairs.n * part.pairs.mean for part in apart if part.pairs)
    assert whole == pytest.approx(found.pairs.loss.n * found.pairs.loss.mean)


def test_a_candidate_that_is_bad_in_one_slice_only_shows_there() -> None:
    rows = _in_shops(_shadow(600))
    for row in rows:
        if row["route"] == "shadow" and "oak" in row["keys"]:
            row |= {"score": 0.999}
    found = _collect(rows, state_in("shadow"), slices=SLICES, carried=CARRIED)
    oak, elm = (found.slices[f"shop={shop}"].pairs for shop in ("oak", "elm"))
    assert oak is not None
    assert elm is not None
    assert oak.mean > 3
    assert elm.mean < 0.5


def test_slices_do_not_depend_on_the_order_of_rows() -> None:
    rows = _in_shops(_shadow(300))
    first, second = (
        _collect(these, state_in("shadow"), slices=SLICES, carried=CARRIED) for these in (rows, list(reversed(rows)))
    )
    assert first.slices == second.slices
    assert first.digest == second.digest


def test_both_decide_at_their_own_thresholds() -> None:
    rows = _shadow(100)
    assert _collect(rows, state_in("shadow")).pairs.agreement is None
    same = _collect(rows, state_in("shadow"), thresholds={A: 0.2, B: 0.4}).pairs.agreement
    apart = _collect(rows, state_in("shadow"), thresholds={A: 0.3, B: 0.4}).pairs.agreement
    assert same is not None
    assert apart is not None
    assert ((same.n, same.hits), (apart.n, apart.hits)) == ((100, 100), (100, 0))


def test_what_labels_that_never_come_would_cost_is_imputed() -> None:
    labels = _labels(600).filter(pl.int_range(pl.len()) % 3 > 0)
    found = _collect(_shadow(600), state_in("shadow"), labels)
    (stratum,) = found.strata
    ours, theirs = stratum.candidate_imputed, stratum.stable_imputed
    assert ours is not None
    assert theirs is not None
    assert (ours.every.n, ours.rectifier.n) == (600, 400)
    assert ours.every.mean == pytest.approx(math.log(2))
    assert theirs.every.mean == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    assert theirs.every.mean + theirs.rectifier.mean == pytest.approx(stratum.stable.mean)
    assert _collect(_shadow(600), state_in("shadow")).strata[0].candidate_imputed is None, "all labels are in"


def test_latencies_are_counted_in_the_bins_that_servers_use() -> None:
    rows = _shadow(4)
    for row, milliseconds in zip(rows, [0.25, 0.25, 0.2501, 0.1, 32768.0, 5.0, 40000.0, 5.0], strict=True):
        row |= {"latency_ms": milliseconds}
    found = _collect(rows, state_in("shadow")).timings
    assert found.stable_bins is not None
    counts = {place: n for place, n in enumerate(found.stable_bins.counts) if n}
    assert counts == {0: 1, 1: 1, len(LATENCY_BOUNDS_MS) - 1: 1, len(LATENCY_BOUNDS_MS): 1}
    assert found.difference is not None
    assert found.difference.n == 4
    assert found.difference.mean == pytest.approx((0 - 0.1501 - 32763 - 39995) / 4)


def test_answers_without_a_fresh_vector_are_counted() -> None:
    rows = _shadow(10)
    rows[1] |= {"missing": 2}
    rows[3] |= {"stale": 1}
    rows[5] |= {"stale": 1, "status": 500, "score": None}
    found = _collect(rows, state_in("shadow"))
    assert found.candidate is not None
    assert found.stable is not None
    assert (found.candidate.stale, found.stable.stale) == (2, 0)
