"""Sources of evidence that fail, lie or fall silent, from each phase of a rollout on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import Evidence, Moments
from tests.faults import prometheus, sample
from tests.faults.registry import Row, Trial
from tests.faults.rollouts import CANDIDATE, Fault, Look, SpoilDocument, rollout

_BLIND = "no step forward while it lasts; the rollout ends by its deadline"
_TRUE = "no step forward by a bad candidate; the rollout ends by its deadline"
_SEEDS_SHORT, _SEEDS_FULL = 2, 20
_OTHER = sample.digest("c")


def _from_the_candidate() -> pl.Expr:
    return pl.col("digest") == CANDIDATE


def _down(look: Look) -> bool:
    look.windows = look.windows.with_name("unreachable")
    look.absent = True
    return True


def _error_page(look: Look) -> bool:
    look.bytes_instead = b"<html><h1>503 Service Unavailable</h1></html>"
    return True


def _late(look: Look) -> bool:
    look.absent = True
    return True


def _number(value: float) -> Callable[[Look], bool]:
    def spoil(look: Look) -> bool:
        spoilt = [pl.when(_from_the_candidate()).then(value).otherwise(name).alias(name) for name in _FLOATS]
        return _changed(look, look.frame.with_columns(spoilt))

    return spoil


_FLOATS = ("score", "latency_ms")


def _changed(look: Look, frame: pl.DataFrame) -> bool:
    before, look.frame = look.frame, frame
    return not before.equals(frame)


def _empty(look: Look) -> bool:
    return _changed(look, look.frame.clear())


def _two_series(look: Look) -> bool:
    twin = look.frame.filter(_from_the_candidate()).with_columns(digest=pl.lit(_OTHER))
    return _changed(look, pl.concat([look.frame, twin]))


def _text(look: Look) -> bool:
    return _changed(look, look.frame.with_columns(score=pl.lit("fast")))


def _stale(look: Look) -> bool:
    return _changed(look, look.frame.filter(pl.col("event_time") < look.now - timedelta(minutes=10)))


def _minutes(look: Look) -> int:
    return 5 if look.seed % 4 < 2 else -5


def _skewed(look: Look) -> bool:
    shift = timedelta(minutes=_minutes(look))
    return _changed(look, look.frame.with_columns(event_time=pl.col("event_time") + shift))


def _other_revision(look: Look) -> bool:
    other = pl.when(_from_the_candidate()).then(pl.lit(_OTHER)).otherwise("digest")
    return _changed(look, look.frame.with_columns(digest=other))


def _stops(look: Look) -> bool:
    """Ten minutes after the fault began."""
    last = look.start + timedelta(minutes=10) if look.number == 0 else look.start
    return _changed(look, look.frame.filter(pl.col("event_time") < last))


def _candidate_silent(look: Look) -> bool:
    """Fifty minutes after the fault began; from then on stable answers for it, and no copy is made."""
    since = look.start + timedelta(minutes=50) if look.number == 0 else look.start
    ours = (pl.col("route") == look.state.candidate_route) & (pl.col("event_time") >= since)
    if look.state.is_mirrored:
        return _changed(look, look.frame.filter(~ours))
    route, digest = (pl.when(ours).then(pl.lit(one)) for one in ("stable", look.state.stable))
    return _changed(look, look.frame.with_columns(route=route.otherwise("route"), digest=digest.otherwise("digest")))


def _few(look: Look) -> bool:
    """One request of so many that the stage's deadline comes just before its minimum."""
    kept = _KEPT[sample.phase_of(look.state)]
    number = pl.col("keys").str.json_path_match("$.number").cast(pl.Int64)
    return _changed(look, look.frame.filter(number % kept == 0))


def _refused(look: Look, these: pl.Expr) -> bool:
    refusal = {"status": pl.lit(400, pl.Int16), "score": pl.lit(None, pl.Float64)}
    refusal |= dict.fromkeys(("features", "keys"), pl.lit("{}"))
    columns = [pl.when(these).then(value).otherwise(name).alias(name) for name, value in refusal.items()]
    return _changed(look, look.frame.with_columns(columns))


def _nearly_all_refused(look: Look) -> bool:
    """By both sides, as many as ``_few`` leaves out."""
    number = pl.col("keys").str.json_path_match("$.number").cast(pl.Int64)
    return _refused(look, number % _KEPT[sample.phase_of(look.state)] != 0)


def _candidate_refuses(look: Look) -> bool:
    """Every second request that it gets, and stable answers."""
    return _refused(look, _from_the_candidate() & (pl.col("request_id").hash(seed=2) % 2 == 0))


_KEPT = {"bootstrap": 34, "shadow": 9, "canary 20 %": 12, "canary 50 %": 28, "confirm": 11}


def _not_applied(look: Look) -> bool:
    look.applied = look.applied.model_copy(update={"candidate": _OTHER})
    return True


def _half_the_weight(look: Look) -> bool:
    route = look.state.candidate_route
    lost = (pl.col("route") == route) & (pl.col("request_id").hash(seed=1) % 2 == 0)
    return _changed(look, look.frame.filter(~lost))


def _path_fails(look: Look) -> bool:
    """Neither side answers for the first 18 minutes."""
    if look.number > 2:
        return False
    return _changed(look, look.frame.with_columns(status=pl.lit(503, look.frame.schema["status"])))


def _unlabelled(look: Look) -> bool:
    look.unlabelled = 0.5
    return True


def _edited(change: Callable[[Look, dict[str, Any]], object]) -> SpoilDocument:
    """A document with something in it changed."""

    def spoil(look: Look, sent: bytes, _: list[bytes]) -> bytes:
        document = json.loads(sent)
        change(look, document)
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    return spoil


def _put(value: float) -> SpoilDocument:
    return _edited(lambda _, document: document["timings"]["candidate"].update(mean=value))


def _built(value: float) -> Callable[[Look, Evidence], Evidence]:
    """Evidence that no reader of documents has checked."""

    def spoil(_: Look, evidence: Evidence) -> Evidence:
        slow = Moments.model_construct(n=100, mean=value, variance=value)
        return evidence.model_copy(update={"timings": evidence.timings.model_copy(update={"stable": slow})})

    return spoil


def _the_last(_: Look, __: bytes, earlier: list[bytes]) -> bytes | None:
    return earlier[-1] if earlier else None


def _older(look: Look, document: dict[str, Any]) -> None:
    moved = timedelta(minutes=-10)
    document["now"] = iso(look.now + moved)
    for side in ("candidate", "stable"):
        arm = document[side]
        if arm and arm["last"]:
            arm["last"] = iso(min(moment_of(arm["last"]), look.now + moved))


def _frozen(look: Look, sent: bytes, earlier: list[bytes]) -> bytes | None:
    """Nothing new since ten minutes after the fault began: the same counts, told as of now."""
    if look.number == 0 or not earlier:
        return _edited(_silent_since)(look, sent, earlier)
    return json.dumps({**json.loads(earlier[-1]), "now": iso(look.now)}, sort_keys=True, separators=(",", ":")).encode()


def _silent_since(look: Look, document: dict[str, Any]) -> None:
    for side in ("candidate", "stable"):
        if arm := document[side]:
            arm["last"] = iso(look.start + timedelta(minutes=10))


def _of_the_future(look: Look, document: dict[str, Any]) -> None:
    """Taken five minutes from now, or counting a request of then."""
    later = iso(look.now + timedelta(minutes=5))
    if look.number % 2:
        document["now"] = later
    else:
        document["candidate"]["last"] = later


_ABOUT = ("task", "environment", "rollout", "stage", "step", "since", "candidate", "first")


def _about_something_else(look: Look, document: dict[str, Any]) -> None:
    key = _ABOUT[(look.seed + look.number) % len(_ABOUT)]
    another = {
        "task": "other",
        "environment": "prod",
        "rollout": "r0001-other",
        "stage": "canary" if look.state.stage != "canary" else "confirm",
        "step": look.state.step + 1,
        "since": iso(look.start - timedelta(minutes=1)),
    }
    if key in another:
        document[key] = another[key]
    elif key == "candidate":
        document["candidate"]["digest"] = _OTHER
    else:
        document["candidate"]["first"] = iso(moment_of(look.state.since or "") - timedelta(minutes=1))


FAULTS = (
    Fault("evidence source down", _BLIND, True, _down, lambda *_: None, prometheus=prometheus.down),
    Fault(
        "source answers 5xx",
        _BLIND,
        True,
        _error_page,
        lambda *_: b"<h1>503 Service Unavailable</h1>",
        prometheus=prometheus.error_page,
    ),
    Fault("source slow", _BLIND, True, _late, _the_last, prometheus=prometheus.slow),
    Fault(
        "NaN",
        _BLIND,
        True,
        _number(float("nan")),
        _put(float("nan")),
        _built(float("nan")),
        prometheus=prometheus.value("NaN"),
    ),
    Fault(
        "+Inf",
        _BLIND,
        True,
        _number(float("inf")),
        _put(float("inf")),
        _built(float("inf")),
        prometheus=prometheus.value("+Inf"),
    ),
    Fault("empty answer", _BLIND, True, _empty, lambda *_: b"{}", prometheus=prometheus.empty),
    Fault(
        "two series",
        _BLIND,
        True,
        _two_series,
        lambda _, sent, __: b"[%s,%s]" % (sent, sent),
        prometheus=prometheus.two_series,
    ),
    Fault(
        "text for a number",
        _BLIND,
        True,
        _text,
        _edited(lambda _, found: found["candidate"].update(n="400")),
        prometheus=prometheus.value("fast"),
    ),
    Fault("stale by 10 minutes", _BLIND, True, _stale, _edited(_older), prometheus=prometheus.stale),
    Fault(
        "clocks 5 minutes apart",
        _TRUE,
        False,
        _skewed,
        _edited(lambda look, found: found.update(now=iso(look.now + timedelta(minutes=_minutes(look))))),
        prometheus=prometheus.skewed,
    ),
    Fault(
        "another revision's data",
        _BLIND,
        True,
        _other_revision,
        _edited(lambda _, found: found["candidate"].update(digest=_OTHER)),
        prometheus=prometheus.other_revision,
    ),
    Fault("traffic stops", _BLIND, True, _stops, _frozen, at_servers=True),
    Fault("the candidate falls silent", _BLIND, True, _candidate_silent, phases=sample.PHASES[1:]),
    Fault("evidence from the future", _BLIND, True, None, _edited(_of_the_future)),
    Fault("evidence about something else", _BLIND, True, None, _edited(_about_something_else)),
    Fault("too few requests", _BLIND, True, _few, at_servers=True),
    Fault("nearly all requests are refused", _BLIND, True, _nearly_all_refused, at_servers=True),
    Fault(
        "the candidate refuses what stable answers",
        "no step forward; it is rolled back and held",
        True,
        _candidate_refuses,
        at_servers=True,
        phases=sample.PHASES[1:4],
    ),
    Fault("cluster does not do what Git says", _BLIND, True, _not_applied, at_servers=True),
    Fault(
        "half the planned traffic arrives",
        _BLIND,
        True,
        _half_the_weight,
        at_servers=True,
        phases=("shadow", *sample.PHASES[2:4]),
    ),
    Fault(
        "an outage of what both sides share",
        f"{_TRUE}; nobody else is rolled back for it",
        False,
        _path_fails,
        at_servers=True,
        blameless=True,
        phases=("shadow", *sample.PHASES[2:4]),
    ),
    Fault("half the labels never come", _BLIND, True, _unlabelled, phases=("confirm",)),
)


def _row(fault: Fault) -> Row:
    def cases(full: bool) -> Sequence[tuple[Any, ...]]:
        seeds = range(_SEEDS_FULL if full else _SEEDS_SHORT)
        return [(phase, seed, way) for phase in fault.phases for seed in seeds for way in fault.ways]

    def trial(directory: Path, phase: str, seed: int, way: str) -> Trial:
        return rollout(directory, fault, phase, seed, way)

    return Row(f"metrics: {fault.name}", "metrics", fault.holds, cases, trial)


ROWS = tuple(_row(fault) for fault in FAULTS)
