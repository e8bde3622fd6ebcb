"""
Grafana's dashboards as code: what this prints is ``manifests/monitoring/dashboards.yaml``.

    python -m sluice.monitoring.dashboards > manifests/monitoring/dashboards.yaml

One ConfigMap a dashboard, found by the label that the sidecar of a Grafana chart looks for. A test asks a real
Prometheus every query.
"""

from __future__ import annotations

import json
import sys
from typing import Any, NamedTuple

_SELECT = 'environment=~"$environment",task=~"$task"'
_BY = "environment, task, short, route"
_LEGEND = "{{environment}} {{task}} {{route}} {{short}}"
_STAGE = "environment, task"
_STAGED = "{{environment}} {{task}}"


class Panel(NamedTuple):
    """One picture: its queries with their legends, the unit of their numbers, and Grafana's name for its kind."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"


def _of(metric: str, more: str = "") -> str:
    return f"{metric}{{{_SELECT}{',' + more if more else ''}}}"


def _with_short_digest(query: str) -> str:
    """With the first twelve hex digits of the digest as ``short``: a legend has no room for all."""
    return f'label_replace({query}, "short", "$1", "digest", "sha256:(.{{12}}).*")'


def _rate(metric: str, by: str = _BY, more: str = "") -> str:
    """Summed rates."""
    rate = f"rate({_of(metric, more)}[$__rate_interval])"
    return f"sum by ({by}) ({_with_short_digest(rate) if 'short' in by else rate})"


def _quantile(q: float) -> tuple[str, str]:
    buckets = _rate("sluice_request_latency_seconds_bucket", f"{_BY}, le")
    return f"histogram_quantile({q}, {buckets})", f"{_LEGEND} p{q * 100:g}"


def _label_delay(q: float) -> tuple[str, str]:
    buckets = f"sum by ({_STAGE}, stage, route, le) ({_of('sluice_label_delay_seconds_bucket')})"
    return f"histogram_quantile({q}, {buckets})", f"{_BY_ROUTE} p{q * 100:g}"


def _quotient(title: str, top: str, bottom: str, legend: str, more: str = "", unit: str = "percentunit") -> Panel:
    return Panel(title, unit, ((f"{_of(top, more)} / ignoring(__name__) {_of(bottom, more)}", legend),))


_ANSWERED = _rate("sluice_requests_total", more='status="2xx"')
_REQUESTS = _rate("sluice_requests_total", more='status=~"2xx|5xx"')
_FAILED = _rate("sluice_requests_total", f"{_BY}, cause", 'status="5xx"')
_REFUSED = _rate("sluice_requests_total", more='status="4xx"')
_ANSWERS = _rate("sluice_requests_total", "environment, task", 'status="2xx"')
_SOME = f"{_rate('sluice_requests_total')} > 0"  # most routes of a server never see a request
_SHARE = f"({_SOME}) / on ({_STAGE}) group_left () {_rate('sluice_requests_total', _STAGE)}"
_BORN = _of("sluice_server_start_time_seconds")
_DIGEST = "{{environment}} {{task}} {{short}}"
_BY_FEATURE = f"{_STAGED} {{{{feature}}}}"
_BY_STAGE = f"{_STAGED} {{{{stage}}}}"
_BY_ROUTE = f"{_BY_STAGE} {{{{route}}}}"
_WHOLE = 'window="",slice=""'


def _lacking_share(title: str, metric: str) -> Panel:
    share = f"{_rate(metric, 'environment, task, feature')} / on (environment, task) group_left () {_ANSWERS}"
    return Panel(title, "percentunit", ((share, _BY_FEATURE),))


SERVING = (
    Panel("Instances a second", "reqps", ((_SOME, _LEGEND),)),
    Panel(
        "Failures, as a share of what was asked, by cause",
        "percentunit",
        ((f"{_FAILED} / on ({_BY}) group_left () {_REQUESTS}", f"{_LEGEND} {{{{cause}}}}"),),
    ),
    Panel("Refusals, as a share of what was asked", "percentunit", ((f"{_REFUSED} / ({_SOME})", _LEGEND),)),
    Panel("Latency", "s", (_quantile(0.5), _quantile(0.99))),
    Panel(
        "Refused instances a second, by the part of the contract that was broken",
        "reqps",
        ((_rate("sluice_requests_refused_total", "environment, task, part"), f"{_STAGED} {{{{part}}}}"),),
    ),
    Panel("Scores", "short", ((_rate("sluice_score_bucket", "le"), "{{le}}"),), "heatmap"),
    Panel(
        "Mean score",
        "short",
        ((f"{_rate('sluice_score_sum')} / {_rate('sluice_score_count')}", _LEGEND),),
    ),
    Panel("Servers", "short", ((f"count by (environment, task, short) ({_with_short_digest(_BORN)})", _DIGEST),)),
    Panel(
        "Restarts in an hour",
        "short",
        ((f"sum by ({_STAGE}) (changes({_of('sluice_server_start_time_seconds')}[1h]))", _STAGED),),
    ),
)
ROLLOUTS = (
    Panel("Stage", "short", ((f"{_of('sluice_release_stage')} == 1", _BY_STAGE),), "state-timeline"),
    Panel("Weights as Git says", "percent", ((_of("sluice_release_weight_percent"), f"{_STAGED} {{{{side}}}}"),)),
    Panel("Share of the instances that each digest got", "percentunit", ((_SHARE, _LEGEND),)),
    Panel("Time in the stage", "s", ((f"time() - {_of('sluice_release_since_seconds')}", _STAGED),)),
    Panel("Time until it times out", "s", ((f"{_of('sluice_release_deadline_seconds')} - time()", _STAGED),)),
    Panel(
        "Holds, and rollouts that wait for a person",
        "short",
        (
            (_of("sluice_release_holds"), f"{_STAGED} holds"),
            (_of("sluice_release_paused"), f"{_STAGED} waits"),
        ),
    ),
    Panel(
        "Age of each stage's newest decisions",
        "s",
        ((f"time() - {_of('sluice_release_decided_seconds')}", f"{_BY_STAGE} {{{{verdict}}}} {{{{action}}}}"),),
        "table",
    ),
    _quotient(
        "Loss of labelled answers, as the task's target has it",
        "sluice_loss_sum",
        "sluice_loss_count",
        _BY_ROUTE,
        _WHOLE,
        "short",
    ),
    _quotient("Labels that are in, of those due", "sluice_labels_known", "sluice_labels_due", _BY_ROUTE),
    Panel("Delay of the labels that are in", "s", (_label_delay(0.5), _label_delay(0.9))),
    _quotient("Same decision by both, in shadow", "sluice_agreement_same", "sluice_agreement_pairs", _STAGED),
    Panel(
        "Refused by one side and answered by the other, in shadow",
        "short",
        ((_of("sluice_refusals_alone"), _BY_ROUTE),),
    ),
    Panel("Age of the newest join with labels", "s", ((f"time() - {_of('sluice_joined_now_seconds')}", _STAGED),)),
)
FEATURES = (
    _lacking_share("Missing, as a share of answers", "sluice_feature_missing_total"),
    _lacking_share("Past their time, as a share of answers", "sluice_feature_stale_total"),
    Panel(
        "Answers that lacked a feature",
        "percentunit",
        ((f"{_rate('sluice_features_stale_total')} / {_ANSWERED}", _LEGEND),),
    ),
    Panel("Divergence from the training profile", "short", ((_of("sluice_skew"), _BY_FEATURE),)),
    _quotient(
        "Served cells that differ from the same cells read offline",
        "sluice_cells_different",
        "sluice_cells_compared",
        _STAGED,
    ),
    Panel(
        "Age of the newest request, in event time",
        "s",
        ((f"time() - max by ({_STAGE}) ({_of('sluice_last_request_timestamp_seconds')} > 0)", _STAGED),),
    ),
)
DASHBOARDS = {"serving": SERVING, "rollouts": ROLLOUTS, "features": FEATURES}


def dashboard(name: str) -> dict[str, Any]:
    """The document that Grafana reads (schema 39, Grafana 10 and newer)."""
    panels = [_panel(number, panel) for number, panel in enumerate(DASHBOARDS[name])]
    return {
        "uid": f"sluice-{name}",
        "title": f"Sluice: {name}",
        "tags": ["sluice"],
        "schemaVersion": 39,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                _variable("environment", "sluice_server_start_time_seconds"),
                _variable("task", 'sluice_server_start_time_seconds{environment=~"$environment"}'),
            ]
        },
        "panels": panels,
    }


def _variable(name: str, metric: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": f"label_values({metric}, {name})",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    style = {"heatmap": "heatmap", "table": "table"}.get(panel.kind, "time_series")
    instant = panel.kind == "table"
    return {
        "id": number + 1,
        "title": panel.title,
        "type": panel.kind,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(65 + i), "expr": expr, "legendFormat": legend, "format": style, "instant": instant}
            for i, (expr, legend) in enumerate(panel.queries)
        ],
    }


def config_maps() -> str:
    """All dashboards as YAML, the same at each call."""
    parts = [f"# Printed by `python -m {__spec__.name}`: change it there.\n"]
    for name in DASHBOARDS:
        text = json.dumps(dashboard(name), indent=1, ensure_ascii=False)
        parts.append(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n"
            f"  name: sluice-dashboard-{name}\n"
            '  labels: {grafana_dashboard: "1", seldon_dashboard: "1"}\n'
            f"data:\n  sluice-{name}.json: |\n" + "".join(f"    {line}\n" for line in text.splitlines())
        )
    return parts[0] + "---\n".join(parts[1:])


if __name__ == "__main__":
    sys.stdout.write(config_maps())
