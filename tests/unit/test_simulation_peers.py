"""The peers' rules do what their sources say, the comparison is fair, and the command prints and writes it all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from sluice.charts import draw
from sluice.cli import main
from sluice.commands import app
from sluice.errors import BadInput
from sluice.gates.policy import read_policy
from sluice.simulation import command
from sluice.simulation.comparison import compare, pairing
from sluice.simulation.counting import Side, Sums, Tally
from sluice.simulation.peers import (
    PEERS,
    ArmPoints,
    PeerRule,
    StepMeasurements,
    StepThresholds,
    argo,
    flagger,
    kayenta,
    play_peer,
)
from sluice.simulation.picture import endings, mistakes
from sluice.simulation.play import Outcome
from sluice.simulation.report import Simulated, percent, rewrite
from sluice.simulation.run import Rival, simulate
from sluice.simulation.traffic import SimulatedTraffic
from sluice.simulation.worlds import scale_of, worlds_for, worlds_named
from tests.support.patience import wait_until

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "manifests/overlays/dev/gate-policy.yaml"
PAIRS = Path(__file__).parents[1] / "replay_pairs/flights.parquet"
LONG = ("--rollouts", "1000000")
POLICY, DIGEST = read_policy(SHIPPED)
SCALE = scale_of(POLICY, 900)
TERMS = StepThresholds(margin=0.05, error_rate=0.01, alpha=0.05, looks=3, failures=1, usual_loss=0.5, needed=100)


def look(candidate: float, stable: float = 0.5, errors: int = 0, n: int = 100) -> Tally:
    """A look at arms of ``n`` requests with these mean losses."""
    sides = [
        Side(n=n, errors=wrong, due=n, labelled=n, loss=Sums(n, n * mean, n * mean * mean))
        for mean, wrong in ((candidate, errors), (stable, 0))
    ]
    return Tally(sides[0], sides[1])


def seen(*looks: Tally, failed_before: int = 0) -> StepMeasurements:
    return StepMeasurements(TERMS, looks=list(looks), failed_before=failed_before)


def peer(name: str) -> PeerRule:
    return next(one for one in PEERS if one.name == name)


def played(name: str, world: str, n: int) -> list[Outcome]:
    (found,) = worlds_named([world])
    return [play_peer(SimulatedTraffic(found, SCALE, 2, number), POLICY, peer(name)) for number in range(n)]


def test_argo_counts_failures_against_its_limit() -> None:
    good, bad, empty = look(0.54), look(0.56), look(0.5, n=0)
    assert argo(seen(good, good)) == "wait"
    assert argo(seen(good, bad, good)) == "pass"
    assert argo(seen(bad, bad)) == "fail"
    assert argo(seen(good, empty, good)) == "wait"
    assert argo(seen(look(0.5, errors=2), look(0.5, errors=2))) == "fail"


def test_flagger_compares_with_a_fixed_maximum_and_takes_no_data_for_good() -> None:
    harder_for_both = look(0.6, stable=0.6)
    assert flagger(seen(harder_for_both, harder_for_both)) == "fail"
    assert flagger(seen(look(0.5, n=0), look(0.5, n=0), look(0.5, n=0))) == "pass"
    assert flagger(seen(look(0.6), failed_before=1)) == "fail"


@pytest.mark.parametrize(
    ("before", "after", "least", "most"), [(300, 450, 0.9, 1.0), (3, 12, 0.0, 0.2), (60, 60, 0.0, 0.02)]
)
def test_the_rank_judge_finds_many_errors_and_misses_rare_ones(
    before: int, after: int, least: float, most: float
) -> None:
    """Errors an hour in 60 points of a minute; a fourfold rise of rare errors is nearly always missed."""
    random = np.random.default_rng(1)
    found = []
    for _ in range(60):
        arms = [ArmPoints(np.ones(60), random.poisson(rate / 60, 60).astype(np.float64)) for rate in (after, before)]
        asked = StepMeasurements(TERMS, looks=[look(0.5)], points=lambda both=(arms[0], arms[1]): both)  # type: ignore[misc]
        found.append(kayenta(asked) == "fail")
    assert least <= np.mean(found) <= most


def test_the_fixed_test_keeps_its_alpha_and_its_power() -> None:
    at_margin = [one.end for one in played("fixed-n", "at-margin", 150)]
    assert at_margin.count("promoted") / 150 < 0.12
    assert "timed out" not in at_margin
    equal = [one.end for one in played("fixed-n", "equal", 60)]
    assert equal.count("promoted") / 60 > 0.65


def test_a_peer_that_never_hears_anything_ends_by_its_deadline() -> None:
    silent = PeerRule("silent", lambda _: "wait", 1, 0)
    (world,) = worlds_named(["equal"])
    outcome = play_peer(SimulatedTraffic(world, SCALE, 1, 0), POLICY, silent)
    longest = sum(stage.maximum_hours for stage in POLICY.online.stages.values())
    assert (outcome.end, outcome.hours) == ("timed out", longest)


def test_all_rules_meet_the_same_requests() -> None:
    (world,) = worlds_named(["equal"])
    alone = simulate(POLICY, [world], SCALE, rollouts=4, seed=9, cores=1)
    rivals = [Rival("kayenta"), Rival("sluice"), Rival("argo")]
    together = simulate(POLICY, [world], SCALE, rollouts=4, seed=9, cores=1, rivals=rivals)
    assert together[Rival("sluice")] == alone[Rival("sluice")]


@pytest.fixture(scope="module")
def compared() -> Simulated:
    worlds = worlds_named(("equal", "worse"))
    table, matched = compare(POLICY, worlds, SCALE, rollouts=8, seed=1, cores=1)
    pairs = pairing(POLICY, SCALE, rollouts=20, seed=1)
    return Simulated(POLICY, DIGEST, worlds, SCALE, 8, 1, table, matched, pairs)


def test_the_comparison_finds_ours_never_wrong_and_pairing_worth_five_times(compared: Simulated) -> None:
    assert [one.wrong.share for one in compared.ours] == [0, 0]
    assert {one.name for one in compared.matched} == {one.name for one in PEERS}
    assert compared.pairing
    assert compared.pairing.unpaired.median >= 5 * compared.pairing.paired.median
    document = json.loads(json.dumps(compared.document(), allow_nan=False))
    assert [rule["name"] for rule in document["rules"]] == ["sluice", "argo", "flagger", "kayenta", "fixed-n"]


def test_pictures_and_tables_say_the_same(compared: Simulated, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- compare:begin -->\nold\n<!-- compare:end -->\nafter\n")
    command.write(compared, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    worst = percent(compared.table[Rival("argo")][0].wrong.share)
    assert worst in text
    assert worst in (tmp_path / "page-compare.svg").read_text()
    assert draw(mistakes(compared)).count('stroke="#dddddd"') == 10, "a cell a rule and world"
    assert draw(endings(compared)).count("worse") == 1
    command.write(compared, page)
    assert page.read_text() == text


def test_without_the_charts_extra_a_page_is_refused_before_anything_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)  # an import of it fails now
    with pytest.raises(BadInput, match=r"^charts: .*; install sluice\[charts\]$"):
        app(["simulate", "no-such-policy.yaml", "--write", str(tmp_path / "page.md")], standalone_mode=False)
    with pytest.raises(BadInput, match=r"^no-such-policy\.yaml: "):
        app(["simulate", "no-such-policy.yaml"], standalone_mode=False)


def test_a_page_without_marks_is_refused_and_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing here\n")
    with pytest.raises(BadInput, match="simulate:begin"):
        rewrite(page, "simulate", "x")
    assert page.read_text() == "nothing here\n"


def test_the_committed_page_is_about_the_shipped_policy() -> None:
    """Red after a change of the policy, until `make simulate` has run."""
    page = (ROOT / "docs/simulation.md").read_text()
    assert page.count(f"policy {DIGEST[:19]}") == 6  # simulated, compared, and on two pairs replayed and compared
    for mark in ("simulate", "compare"):
        assert f"<!-- {mark}:begin -->" in page
    invented, _, _ = page.partition("## On days that happened")
    for world in worlds_for(SCALE, ()):
        assert invented.count(f"| {world.name} | {world.truth} |") == 3


def sluice(*arguments: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-c", "from sluice.cli import main; main()", "simulate", *arguments]
    return subprocess.run(call, capture_output=True, text=True, check=False)


def test_the_command_prints_figures_for_scripts() -> None:
    done = sluice(str(SHIPPED), "--world", "much-worse", "--rollouts", "10", "--seed", "4", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["seed"], document["rollouts"], document["policy_digest"]) == (4, 10, DIGEST)
    (world,) = document["rules"][0]["worlds"]
    assert (world["world"], world["rolled_back"][0]) == ("much-worse", 1.0)


def test_a_killed_simulation_leaves_no_process() -> None:
    call = [
        sys.executable,
        "-c",
        "from sluice.cli import main; main()",
        "simulate",
        str(SHIPPED),
        "--rollouts",
        "90000",
    ]
    parent = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        workers = wait_until(
            "processes begin", lambda: [pid for pid in children(parent.pid) if "spawn_main" in command_of(pid)]
        )
        assert workers
    finally:
        parent.kill()
        parent.wait()
    assert wait_until("they end", lambda: not any("spawn_main" in command_of(pid) for pid in workers))


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([str(SHIPPED), "--world", "paradise"], "paradise"),
        ([str(SHIPPED), "--rollouts", "0"], "--rollouts"),
        (
            [str(SHIPPED), "--rollouts", "9" * 320],
            "--rollouts: is beyond all measure; give a number from 1",
        ),
        ([str(SHIPPED), "--look-every", "-1"], "--look-every"),
        ([str(SHIPPED), "--look-every", "nan"], "--look-every: is nan"),
        ([str(SHIPPED), "--look-every", "1e-320"], "--look-every: is 9.99989e-321; give a number from 0.1 to 8,784"),
        ([str(SHIPPED), "--requests-a-day", "nan"], "--requests-a-day: is nan"),
        ([str(SHIPPED), "--requests-a-day", "inf"], "--requests-a-day: is beyond all measure"),
        ([str(SHIPPED), "--requests-a-day", "1e12"], "--requests-a-day: is 1e+12"),
        ([str(SHIPPED), "--replay", str(PAIRS), "--hours", "nan"], "--hours: is nan"),
        ([str(SHIPPED), "--replay", str(PAIRS), "--look-every", "1e-9"], "--look-every: is 1e-09"),
        ([str(SHIPPED), "--replay", str(PAIRS), "--rollouts", "9" * 320], "--rollouts: is beyond all measure"),
        ([str(SHIPPED), "--write", "no-such.md", *LONG], "no-such.md: is no file"),
        ([str(SHIPPED), "--write", "README.md", *LONG], "README.md: has no marks simulate:begin"),
        ([str(SHIPPED), "--write", "docs/report.png", *LONG], "docs/report.png: cannot be read (no UTF-8)"),
        ([str(SHIPPED), "--write", "/dev/full", *LONG], "/dev/full: is no file"),
        (
            [str(SHIPPED), "--write", "README.md", "--replay", str(PAIRS), *LONG],
            "has no marks replay-flights",
        ),
        (["no-such-policy.yaml"], "no-such-policy.yaml"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sluice", "simulate", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert len(said.err.strip().splitlines()) == 1
    assert named in said.err
    assert not said.out
