"""The step that submits a training to a cluster; what it does on one is in ``tests/cluster``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.train_job import TrainOnNodes


def test_an_unknown_operator_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = TrainOnNodes("PyTorchJob", "nowhere", tmp_path)
    step.ends()
    assert isinstance(step.error, SystemExit)
    assert "choose TrainJob or TFJob" in capsys.readouterr().err
