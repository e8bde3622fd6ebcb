"""
What the moments of scrapes leave open about a split.

Servers are scraped one after the other, so the newest counts of two sides end at different moments, up to one scrape
interval apart, and their oldest ones likewise. At a hundred requests a second and 30 s between scrapes that is up to
3,000 requests on one side alone: a broken split, for any test that takes the counts at their word.
"""

from __future__ import annotations

from collections.abc import Mapping

from sluice.prometheus.api import PrometheusApi
from sluice.prometheus.server_counts import selector


def unseen_requests(
    api: PrometheusApi, matchers: Mapping[str, str], begin: float, end: float, two_scrapes: float
) -> int:
    """
    How many requests lie between two scrapes of their server, at both edges of a window, all servers together.

    Args:
        matchers: labels that every query pins.
        begin, end: the window, seconds.
        two_scrapes: seconds in which each server is scraped twice.

    Raises:
        BadAnswer: no answer, or one that breaks a rule.
    """
    counts = f"{selector('sluice_requests_total', matchers)}[{two_scrapes:g}s]"
    query = f"max_over_time({counts}) - min_over_time({counts})"
    return round(sum(one.value for at in (begin, end) for one in api.vector(query, at, matchers)))


def nearest_to_plan(other: int, candidate: int, share: float, unseen: int) -> tuple[int, int]:
    """
    Of all splits that ``unseen`` requests on the wrong side of a scrape could explain, the one nearest to the plan.

    Args:
        other, candidate: counts of the two sides.
        share: the candidate's, as planned, 0 to 1.
    """
    short = round(share * (other + candidate)) - candidate
    shift = max(-min(unseen, candidate), min(short, unseen, other))
    return other - shift, candidate + shift
