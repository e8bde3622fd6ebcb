"""The loop survives bad input and SIGKILL at any moment, and ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.patience import code_of
from tests.support.tiny_run import (
    BROKEN_NAME,
    RUN,
    Ended,
    end_state,
    processes_of,
    sluice,
    start,
    worker_log,
)

KILLS = int(os.environ.get("SLUICE_KILLS", "5"))
SEED = int(os.environ.get("SLUICE_KILL_SEED", "1"))


@pytest.fixture(scope="module")
def second_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second home, in which first the source and then the power fails."""
    return tmp_path_factory.mktemp("second") / "home"


def test_a_source_that_lost_a_column_is_named_in_one_line(second_home: Path) -> None:
    done = sluice(second_home, "run", "--story", BROKEN_NAME)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("sluice: ")
    assert "amount" in line
    assert "Traceback" not in done.stdout
    assert end_state(second_home)["decisions"] == []


def test_runs_that_were_killed_end_as_the_undisturbed_one(ended: Ended, second_home: Path) -> None:
    """In the home of the run that failed: mending the source is enough to go on."""
    log = second_home.parent / "killed.log"
    killed = _play_with_kills(second_home, log, _done(ended.home))
    print(f"\n{len(killed)} kills: {'; '.join(killed)}")  # noqa: T201
    assert len(killed) >= KILLS - 1
    assert processes_of(second_home) == []
    disturbed, undisturbed = end_state(second_home), end_state(ended.home)
    for key, value in undisturbed.items():
        assert disturbed[key] == value, key
    assert len(disturbed["windows"]) >= 5


def _play_with_kills(home: Path, log: Path, whole: int) -> list[str]:
    """
    Play the story with ``KILLS`` kills at random moments; says what was killed where.

    Moments are spread over what gets done, not over time, so that they reach the end however slow the machine is.
    """
    chance = random.Random(SEED)  # noqa: S311  repeatable on purpose
    killed: list[str] = []
    run, deaths = start(home, log, forked=True), 0
    for number in range(KILLS):
        target = int((number + chance.random()) / KILLS * whole)
        if _ends_before(run, _reached(home, target)) or _ends_before(run, _after(chance.uniform(0, 3))):
            break
        # `sluice run` starts its worker three times and no more.
        worker = _worker(run) if chance.random() < 0.4 and deaths < 2 else None
        (worker or run).send_signal(signal.SIGKILL)
        who = "worker" if worker else "sluice run"
        killed.append(f"{who} at {_done(home)}/{whole} ({_last_line(log)})")
        deaths += 1
        if worker is None:
            run.wait()
            run, deaths = start(home, log, forked=True), 0
    assert code_of(run) == 0, log.read_text()[-2000:] + worker_log(home)
    return killed


def _done(home: Path) -> int:
    """Pipeline steps and windows of traffic that ended."""
    return sum(1 for pattern in ("pipelines/cache/*/*.json", "predictions/*/*.parquet") for _ in home.glob(pattern))


def _reached(home: Path, target: int) -> Callable[[], bool]:
    return lambda: _done(home) >= target


def _after(seconds: float) -> Callable[[], bool]:
    moment = time.monotonic() + seconds
    return lambda: time.monotonic() >= moment


def _ends_before(run: subprocess.Popen[bytes], holds: Callable[[], bool]) -> bool:
    while run.poll() is None and not holds():
        time.sleep(0.05)
    return run.poll() is not None


def _last_line(log: Path) -> str:
    lines = log.read_text().splitlines()
    return lines[-1].strip() if lines else "the start"


def _worker(run: subprocess.Popen[bytes]) -> psutil.Process | None:
    children = psutil.Process(run.pid).children()
    return next((child for child in children if "sluice_local.worker" in child.cmdline()), None)


def test_a_finished_story_only_shows_its_end_again(ended: Ended) -> None:
    before = end_state(ended.home)
    began = time.monotonic()
    done = sluice(ended.home, *RUN)
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert _story_lines(done.stdout) == _story_lines(ended.output)
    assert len(_story_lines(done.stdout)) >= 3
    assert end_state(ended.home) == before
    print(f"\nsluice run on a finished home took {seconds:.1f} s")  # noqa: T201
    assert seconds < 30


def _story_lines(output: str) -> list[str]:
    """The closing lines: a number and a verdict."""
    return [line for line in output.splitlines() if re.match(r"\d\. (PASS|FAIL|INCONCLUSIVE)", line)]
