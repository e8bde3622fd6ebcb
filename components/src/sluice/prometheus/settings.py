"""The Prometheus of a cluster's gate, from environment variables; see the option manifests/options/gate."""

from __future__ import annotations

from collections.abc import Mapping

from sluice.errors import BadInput
from sluice.prometheus.api import PrometheusApi
from sluice.prometheus.source import PrometheusSource

_SCRAPE_SECONDS = 30.0


def prometheus_source(variables: Mapping[str, str]) -> PrometheusSource:
    """
    A ``SourceFactory``; sides are told apart by digest, because an HTTPRoute does not mark requests.

    Raises:
        BadInput: a variable is missing or wrong.
    """
    scrape = _seconds(variables, "SLUICE_PROMETHEUS_SCRAPE_SECONDS", _SCRAPE_SECONDS)
    namespace = f"namespace={variables['SLUICE_NAMESPACE']}" if variables.get("SLUICE_NAMESPACE") else ""
    return PrometheusSource(
        PrometheusApi.of_environment(variables),
        matchers=_matchers(variables.get("SLUICE_PROMETHEUS_MATCHERS", namespace)),
        settle_seconds=2 * scrape,
        fresh_seconds=2 * scrape,
        joined=_yes(variables, "SLUICE_PROMETHEUS_JOINED"),
        marked=False,
    )


def _matchers(text: str) -> dict[str, str]:
    """``key=value,key=value``."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    if wrong := [key for key, _, value in pairs if not (key.isidentifier() and key.isascii() and value)]:
        rule = f"has {wrong[0]!r} where a label and its value belong"
        raise BadInput("SLUICE_PROMETHEUS_MATCHERS", rule, "write it like namespace=sluice-dev,cluster=west")
    return {key: value for key, _, value in pairs}


def _seconds(variables: Mapping[str, str], name: str, default: float) -> float:
    text = variables.get(name) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3600:
        raise BadInput(name, f"is {text!r}, not 1 to 3600", "write the interval at which Prometheus scrapes")
    return seconds


def _yes(variables: Mapping[str, str], name: str) -> bool:
    text = variables.get(name) or "true"
    if text not in {"true", "false"}:
        raise BadInput(name, f"is {text!r}", "write true or false")
    return text == "true"
