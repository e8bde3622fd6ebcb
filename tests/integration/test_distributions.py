"""Wheels carry all that they read: installed away from a checkout, they open no file of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from sluice.installation.source_code import reached_sources

ROOT = Path(__file__).parents[2]
UV = str(Path(sys.executable).with_name("uv"))
LINKED = {
    "manifests": "sluice/installation/manifests",
    "feature_repo": "sluice/installation/feature_repo",
    "kustomization.yaml": "sluice/installation/kustomization.yaml",
    "pipelines/compiled": "sluice_pipelines/compiled",
}
"""Where a wheel has what stands elsewhere in the repository."""
WATCHED = """
import json, sys
opened = set()
sys.addaudithook(lambda event, values: opened.add(str(values[0])) if event == "open" else None)
{work}
print("opened " + json.dumps(sorted(opened)))
"""
WORK = """
from importlib.metadata import distribution
from pathlib import Path
for name in ("sluice", "sluice-examples", "sluice-pipelines", "sluice-serving"):
    for entry in distribution(name).entry_points:
        loaded = entry.load()
        assert loaded.chapters if entry.group == "sluice.stories" else callable(loaded), entry
from sluice.features.definitions import load_definitions
from sluice.features.tables import tables_at
from sluice.gitops.writer import GitOps
from sluice.installation import FEATURE_REPO, INSTALLATION, code_digest
from sluice.tasks.flights import TASK
gitops = GitOps(Path("gitops.git"), "dev")
gitops.seed(INSTALLATION)
assert gitops.snapshot().policy.task == TASK.name
with tables_at("."):
    assert load_definitions(FEATURE_REPO)
assert TASK.schema_file.is_file()
assert code_digest(FEATURE_REPO, TASK.modules) == code_digest(FEATURE_REPO, TASK.modules)
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of all distributions, built as ``make dist`` does: each from its source distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [UV, "build", "--all-packages", "--offline", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*command, "--out-dir", str(folder)], cwd=ROOT, check=True, capture_output=True, text=True)
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has our wheels, and by a .pth file what they depend on."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin/python"
    command = [UV, "pip", "install", "--offline", "--no-deps", "--quiet", "--python"]
    subprocess.run([*command, str(python), *map(str, wheels)], check=True, capture_output=True, text=True)
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text(
        sysconfig.get_path("purelib")
    )  # its .pth files, ours among them, are not read
    return folder


def run_in(environment: Path, folder: Path, *command: str | Path) -> str:
    """What a command prints, run in a folder with nothing of this process' environment."""
    clean = {"PATH": f"{environment}/bin:/usr/bin:/bin", "HOME": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command, cwd=folder, env=clean, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_wheel_has_all_that_is_not_code(wheels: list[Path]) -> None:
    found: dict[str, bytes] = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            found |= {name: archive.read(name) for name in archive.namelist()}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    tracked = [name for name in listed.splitlines() if (ROOT / name).is_file() and not (ROOT / name).is_symlink()]
    wanted = {name.split("/src/", 1)[1]: name for name in tracked if "/src/" in name}
    for place, there in LINKED.items():
        names = [name for name in tracked if name == place or name.startswith(f"{place}/")]
        assert names
        wanted |= {there + name.removeprefix(place): name for name in names}
    assert {there for there, name in wanted.items() if found.get(there) != (ROOT / name).read_bytes()} == set()
    assert {name.split("/")[0] for name in found if name.endswith("/py.typed")} == {
        path.name for path in ROOT.glob("*/src/*") if path.is_dir()
    }


def test_nothing_of_a_checkout_is_read(installed: Path, tmp_path: Path) -> None:
    printed = run_in(installed, tmp_path, installed / "bin/python", "-c", WATCHED.format(work=WORK))
    opened = json.loads(printed.splitlines()[-1].removeprefix("opened "))
    assert [name for name in opened if name.startswith(str(installed)) and name.endswith("gate-policy.yaml")]
    dependencies = sysconfig.get_path("purelib")
    ours = [name for name in opened if Path(name).is_relative_to(ROOT) and not Path(name).is_relative_to(dependencies)]
    assert ours == []


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["sluice", "--help"], ["rollback", "gate", "run", "report"]),
        (["sluice-submit", "training", "--validate"], ["training: all parameters are in range"]),
        (["sluice-predictor", "--help"], ["--bundle"]),
        (["sluice-collector", "--help"], ["--store"]),
    ],
)
def test_a_console_script_answers(installed: Path, tmp_path: Path, command: list[str], says: list[str]) -> None:
    script = installed / "bin" / command[0]
    printed = run_in(installed, tmp_path, script, *command[1:])
    assert [word for word in says if word not in printed] == []
    assert os.listdir(tmp_path) == []  # noqa: PTH208  nothing was written


def test_a_repository_begun_in_an_empty_folder_promotes_a_model(installed: Path, tmp_path: Path) -> None:
    """Of wheels alone: begun, found sound, its own tests, the loop on its 1,000 rows."""
    folder, sluice = tmp_path / "returns", installed / "bin/sluice"
    folder.mkdir()
    run_in(installed, folder, sluice, "init", "returns", "--target", "binary")
    assert "nothing is wrong" in run_in(installed, folder, sluice, "check")
    run_in(installed, folder, installed / "bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    printed = run_in(installed, folder, sluice, "run", "--quick")
    assert "1. PASS" in printed
    found = run_in(installed, folder, "env", "SLUICE_HOME=.sluice-quick", sluice, "status", "--json")
    status = json.loads(found)
    assert (status["task"], status["environment"], status["stage"]) == ("returns", "returns-dev", "stable")
    code = (
        "import sluice; from pathlib import Path; home = Path('.sluice-quick');"
        f"rows = sluice.read_frame('first', home); model = sluice.load({status['stable']!r}, home);"
        "assert model.predict(rows).height == rows.height;"
        "assert sluice.read_predictions('returns-dev', home).height > 50;"
        "assert 'auc' in set(sluice.read_evaluation('first', home)['metric'])"
    )
    run_in(installed, folder, installed / "bin/python", "-c", code)


def test_the_platforms_own_tasks_have_the_same_sources_in_a_checkout_and_in_an_image(
    installed: Path, tmp_path: Path
) -> None:
    """Or a model that was trained in one is refused by the servers of the other."""
    modules = ["sluice.tasks.flights", "sluice.tasks.flights_on_demand"]
    code = "import json, sys; from sluice.installation.source_code import reached_sources as reached; "
    printed = run_in(
        installed, tmp_path, installed / "bin/python", "-c", f"{code}print(json.dumps(reached({modules})))"
    )
    found = json.loads(printed)
    assert found == reached_sources(modules)
    assert {*modules, "sluice.tasks.flights_tables"} <= found.keys()
