"""How long a student is trained."""

from __future__ import annotations

import pytest

from sluice.compression.student import batch_size, epochs_of


@pytest.mark.parametrize(("rows", "epochs"), [(120_000, 6), (102_400, 6), (3200, 6), (800, 24), (100, 100), (1, 100)])
def test_a_student_of_few_rows_sees_them_more_often(rows: int, epochs: int) -> None:
    steps = max(1, rows // batch_size(rows, 100, 1024))
    assert epochs_of(steps, 6, 600) == epochs


def test_a_student_takes_steps_enough_whatever_the_rows() -> None:
    steps = [max(1, rows // batch_size(rows, 100, 1024)) for rows in range(200, 20_000, 137)]
    taken = [each * epochs_of(each, 6, 600) for each in steps]
    assert min(taken) >= 600
    assert max(taken) < 1300
