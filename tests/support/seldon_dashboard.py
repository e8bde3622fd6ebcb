"""
What the dashboard "Prediction Analytics" of the Helm chart seldon-core-analytics asks a Prometheus.

Read in https://github.com/SeldonIO/seldon-core at 2fd3ff451b7e8eca64b3503e3ca5d4636f645bc8 (Apache-2.0 then),
helm-charts/seldon-core-analytics/files/grafana/configs/predictions-analytics-dashboard.json. Only metrics, labels and
windows are here, written anew; the document itself is not part of this repository.
"""

from __future__ import annotations

from collections.abc import Iterator

_SERVER = "seldon_api_executor_server_requests_seconds"
_CLIENT = "seldon_api_executor_client_requests_seconds"
_MODEL = ("model_name", "model_version", "model_image", "predictor_name", "predictor_version")
VARIABLES = ("deployment_name", *_MODEL)
"""Labels of ``_CLIENT``'s count whose values the dashboard lets one choose from; by default all of them."""
COUNTED = f"{_CLIENT}_count"


def _any(labels: tuple[str, ...], *more: str) -> str:
    return ",".join([*more, *(f'{label}=~".*"' for label in labels)])


def queries() -> Iterator[tuple[str, str]]:
    """Panel and query."""
    yield "Global Request Rate", f"round(sum(irate({_SERVER}_count[1m])), 0.001)"
    yield "Success", f'sum(rate({_SERVER}_count{{status!~"5.*"}}[1m])) / sum(rate({_SERVER}_count[1m]))'
    one = _any(("deployment_name",))
    yield "Request Rate ($deployment)", f"round(sum(irate({COUNTED}{{{one}}}[1m])), 0.001)"
    good = _any(("deployment_name",), 'status!~"5.*"')
    yield "Success ($deployment)", f"sum(rate({COUNTED}{{{good}}}[1m])) / sum(rate({COUNTED}{{{one}}}[1m]))"
    for kind in "45":
        status = f'status=~"{kind}.*"'
        yield f"{kind}xxs", f"sum(irate({_SERVER}_count{{{status}}}[1m]))"
        yield f"{kind}xxs ($deployment)", f"sum(irate({COUNTED}{{{_any(('deployment_name',), status)}}}[1m]))"
    by = ", ".join(_MODEL)
    yield "Reqs/sec to $model_image", f"sum(rate({COUNTED}{{{_any(_MODEL)}}}[5s])) by ({by}, service)"
    reward, total = (f"seldon_api_model_feedback{name}_total{{{_any(VARIABLES)}}}[1m]" for name in ("_reward", ""))
    yield "$model_image Reward", f"rate({reward}) / rate({total})"
    for q, service in ((0.5, "/Predict"), *((q, ".*[Pp]redict") for q in (0.75, 0.9, 0.95, 0.99))):
        buckets = f"rate({_CLIENT}_bucket{{{_any(_MODEL, f'service=~{chr(34)}{service}{chr(34)}')}}}[20s])"
        yield f"$model_image Latency p{q * 100:g}", f"histogram_quantile({q}, sum({buckets}) by ({by}, le))"
