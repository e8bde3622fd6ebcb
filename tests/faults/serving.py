"""What is wrong with a live request's features, and with the code that they come from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import urllib3
from prometheus_client.parser import text_string_to_metric_families

from sluice.child_process import ChildServer
from sluice.documents.event_time import iso
from sluice.workspace import bundle_directory
from tests.faults.registry import Row, Trial
from tests.support.odd_visits import FAULTS, FINE, NOW, write_odd_store
from tests.support.patience import url_of
from tests.support.shop_kit import FILES, TABLES, TRANSFORM, digests_of_kit, shop_kit

_PATH = "/v1/models/tiny:predict"


def _answers(directory: Path, *requests: list[dict[str, Any]]) -> tuple[list[tuple[int, Any]], dict[str, float]]:
    """What a server on the odd store answers, and what it counts: requests by cause, missing cells."""
    digest = write_odd_store(directory / "store", directory / "bundles")
    command = [sys.executable, "-m", "sluice_serving.predictor", "--digest", digest, "--model_name", "tiny"]
    command += ["--bundle", str(bundle_directory(directory / "bundles", digest)), "--http_port", "0"]
    child = ChildServer([*command, "--store", str(directory / "store")], directory / "server.log")
    try:
        url, headers = url_of(child), {"x-sluice-time": iso(NOW)}
        answers = [
            urllib3.request("POST", url + _PATH, json={"instances": instances}, headers=headers)
            for instances in requests
        ]
        text = urllib3.request("GET", f"{url}/metrics").data.decode()
    finally:
        child.stop()
    counts = dict.fromkeys(("features", "request", "missing"), 0.0)
    for sample in (sample for family in text_string_to_metric_families(text) for sample in family.samples):
        if sample.name == "sluice_requests_total":
            counts[sample.labels["cause"]] = counts.get(sample.labels["cause"], 0) + sample.value
        elif sample.name == "sluice_feature_missing_total":
            counts["missing"] += sample.value
    return [(answer.status, json.loads(answer.data)) for answer in answers], counts


def failing_transform(directory: Path, form: str) -> Trial:
    """Every kind of fault in one batch, among rows that are fine, or alone."""
    faults = [{"shop": "oak", "amount": amount} for amount in FAULTS]
    fine = {"shop": "oak", "amount": FINE}
    requests = [[fine, *faults, fine]] if form == "in a batch" else [[one] for one in (fine, *faults, fine)]
    answers, counts = _answers(directory, *requests)
    if form == "in a batch":
        status, body = answers[0]
        rows = body.get("predictions", [])
        answered = [status == 200 and "score" in row for row in rows]
    else:
        answered = [status == 200 for status, _ in answers]
    right = answered == [True, *([False] * len(faults)), True] and not counts["request"]
    said = "" if right and counts["features"] == len(faults) else f"{form}: {answered}, {counts}"
    return Trial(counts["features"] > 0, not said, said=said)


def absent_entity(directory: Path, amount: float) -> Trial:
    """A key that the store lacks is a missing feature: answered by the default, counted, and nobody's fault."""
    row = {"shop": "yew", "amount": amount}
    answers, counts = _answers(directory, [row], [{"amount": amount, "visits": None, "colour": None}])
    (status, body), (_, default) = answers
    right = status == 200 and body["predictions"] == default["predictions"] and not counts["features"]
    return Trial(counts["missing"] > 0, right, said="" if right else f"{status} {body} {counts}"[:300])


def edited(directory: Path, name: str) -> Trial:
    """One file of a person's package gets another line: what was made of it before is no longer taken for it."""
    with shop_kit(directory / "path") as kit:
        before = digests_of_kit(kit)
        (kit / name).write_text(FILES[name] + "# edited\n")
        after = digests_of_kit(kit)
    tables, service, run = (one != other for one, other in zip(before, after, strict=True))
    wanted = (name in TABLES - {"shopkit/task.py"}, name in TRANSFORM, True)
    right = (tables, service, run) == wanted
    return Trial(True, right, said="" if right else f"{name}: tables {tables}, service {service}, run {run}")


ROWS = (
    Row(
        "features: a transform raises, or gives what is no value",
        "features",
        "5xx of the features for its rows, counted so, never the client's fault; the other rows are answered",
        lambda _: [("in a batch",), ("alone",)],
        failing_transform,
    ),
    Row(
        "features: an entity that the store lacks",
        "features",
        "answered by the manifest's default, counted as missing, no failure",
        lambda _: [(FINE,), (3.0,)],
        absent_entity,
    ),
    Row(
        "code: a module, SQL, table or transform of a person's package is edited",
        "code",
        "its tables', service's and run's digests are others: no cache, frame or parity takes the old for the new",
        lambda _: [(name,) for name in sorted(TABLES | TRANSFORM)],
        edited,
    ),
)
