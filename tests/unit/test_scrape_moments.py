"""What the moments of scrapes may explain of a split, and what they may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.gates.sequential import sample_ratio
from sluice.prometheus.scrape_moments import nearest_to_plan

_COUNTS = st.integers(0, 10**7)


@pytest.mark.parametrize(
    ("other", "candidate", "share", "unseen", "expected"),
    [
        (500, 440, 0.5, 0, (500, 440)),
        (500, 440, 0.5, 20, (480, 460)),
        (500, 440, 0.5, 100, (470, 470)),
        (440, 500, 0.5, 20, (460, 480)),
        (3, 315, 1.0, 5, (0, 318)),
        (318, 0, 1.0, 5, (313, 5)),
        (0, 0, 0.5, 9, (0, 0)),
        (900, 0, 0.0, 9, (900, 0)),
    ],
)
def test_the_nearest_split_that_is_possible(
    other: int, candidate: int, share: float, unseen: int, expected: tuple[int, int]
) -> None:
    assert nearest_to_plan(other, candidate, share, unseen) == expected


@given(_COUNTS, _COUNTS, st.floats(0, 1), st.integers(0, 10**4))
def test_nobody_is_counted_twice_and_no_more_is_moved_than_was_unseen(
    other: int, candidate: int, share: float, unseen: int
) -> None:
    left, right = nearest_to_plan(other, candidate, share, unseen)
    assert left + right == other + candidate
    assert min(left, right) >= 0
    assert abs(right - candidate) <= unseen
    assert abs(right - round(share * (other + candidate))) <= abs(candidate - round(share * (other + candidate)))


def test_a_scrape_apart_is_no_broken_split_and_a_broken_one_still_is() -> None:
    """A hundred requests a second for an hour, 30 s between scrapes: 3,000 requests are on one side alone."""
    apart, broken = (180_000, 177_000), (216_000, 144_000)
    alarm = 6.9  # -log(0.001)
    assert sample_ratio(apart[1], apart[0], 0.5) > alarm
    left, right = nearest_to_plan(*apart, 0.5, 3000)
    assert sample_ratio(right, left, 0.5) < alarm
    left, right = nearest_to_plan(*broken, 0.5, 3000)
    assert sample_ratio(right, left, 0.5) > alarm
