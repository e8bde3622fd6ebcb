"""``sluice check`` names what a first-time author gets wrong: file and line, rule, fix, all at once."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice_project.mistake import Mistake
from sluice_project.samples import SAMPLES
from tests.support.projects import begun, found_in

TASK, DATA = "src/returns/task.py", "src/returns/data/orders.csv"
DEV = "deploy/manifests/overlays/returns-dev"
Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new repository with features of a store, which tests copy."""
    return begun(tmp_path_factory.mktemp("fresh"), features="feast")


@pytest.fixture
def project(fresh: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fresh, tmp_path / "returns"))


def edit(path: str, old: str, new: str) -> Change:
    """Other words in a file; the words have to be there."""

    def change(folder: Path) -> None:
        text = (folder / path).read_text("utf-8")
        assert old in text, path
        (folder / path).write_text(text.replace(old, new), "utf-8")

    return change


def rows(change: Callable[[str], str]) -> Change:
    """Other rows in the table."""

    def changed(folder: Path) -> None:
        head, *lines = (folder / DATA).read_text("utf-8").splitlines()
        (folder / DATA).write_text("\n".join([head, *map(change, lines)]) + "\n", "utf-8")

    return changed


def more(line: str) -> Change:
    """Another argument of the task, in the line after its label."""
    return edit(TASK, '    label="returned",\n', f'    label="returned",\n    {line}\n')


def twice(folder: Path) -> None:
    lines = (folder / DATA).read_text("utf-8").splitlines()
    (folder / DATA).write_text("\n".join([*lines, *lines[-4:]]) + "\n", "utf-8")


def prepared(body: str) -> Change:
    """A function of the author's own, which changes the table."""

    def change(folder: Path) -> None:
        more("prepare=prepared,")(folder)
        edit(TASK, "TASK = ", f"def prepared(frame):\n    {body}\n\n\nTASK = ")(folder)

    return change


def image_by_tag(folder: Path) -> None:
    entry = "images:\n- {name: ghcr.io/sluice-ml/serving, newName: registry/returns, newTag: v1}\n"
    with (folder / DEV / "kustomization.yaml").open("a") as file:
        file.write(entry)


def each_of(*changes: Change) -> Change:
    """One after the other."""

    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def file(path: str, text: str | None) -> Change:
    """A file of this text; None for none."""

    def change(folder: Path) -> None:
        if text is None:
            (folder / path).unlink()
        else:
            (folder / path).write_text(text, "utf-8")

    return change


POLICY = f"{DEV}/gate-policy.yaml"
HEAD = "ordered_at,shop,channel,items,amount,returned"
OFFLINE = "offline:\n  - {metric: loss"
SLICE_CLASS = "from sluice.tasks.task import Slice\nfrom sluice.tasks.table"
VIEW = 'from sluice.features.tables import table_path\n\nPLACE = table_path(__file__, "customers")\n'
MISTAKES: dict[str, tuple[Change, str, str]] = {
    "times without a zone": (rows(lambda row: row.replace("Z,", ",", 1)), TASK, "without a time zone"),
    "another clock": (rows(lambda row: row.replace("2024-", "2924-", 1)), TASK, "in the future"),
    "the label among inputs": (more('inputs=("amount", "returned"),'), TASK, "which is the label"),
    "a key that is missing": (rows(lambda row: row.replace(",elm,", ",,")), TASK, "column 'shop' is missing in"),
    "duplicate rows": (twice, TASK, "4 rows that equal"),
    "a constant label": (rows(lambda row: row[:-1] + "1"), TASK, "nothing can be learned"),
    "a label of another kind": (rows(lambda row: row + "5"), TASK, "column 'returned'"),
    "a misspelt column": (edit(TASK, 'time="ordered_at"', 'time="ordered_on"'), TASK, "write 'ordered_at'"),
    "a misspelt slice": (
        each_of(more('slices=(Slice("channel", "chanel"),),'), edit(TASK, "from sluice.tasks.table", SLICE_CLASS)),
        TASK,
        "write 'channel'",
    ),
    "a label before the prediction": (more("label_known=timedelta(days=-1),"), TASK, "before the prediction"),
    "an import of nothing": (edit(TASK, "from pathlib", "import pandsa\nfrom pathlib"), TASK, "'pandsa'"),
    "a package that no image has": (edit(TASK, "from pathlib", "import pytest\nfrom pathlib"), TASK, "an image"),
    "a view without a table": (file("feature_repo/more.py", VIEW), "feature_repo/more.py", "'customers'"),
    "an unknown metric": (edit(POLICY, OFFLINE, OFFLINE[:-1]), POLICY, "'los'"),
    "a metric of another kind": (edit(POLICY, OFFLINE, OFFLINE.replace("loss", "rmse")), POLICY, "rmse"),
    "a key of the policy that is none": (edit(POLICY, "look_every_hours", "look_every"), POLICY, "look_every"),
    "a policy of another task": (edit(POLICY, "task: returns", "task: parcels"), POLICY, "'parcels'"),
    "an image by its tag": (image_by_tag, f"{DEV}/kustomization.yaml", "has no digest"),
    "a namespace of another": (
        edit(f"{DEV}/kustomization.yaml", "namespace: sluice-returns-dev", "namespace: sluice-dev"),
        f"{DEV}/kustomization.yaml",
        "namespace",
    ),
    "another commit of the platform": (
        edit(f"{DEV}/kustomization.yaml", "base?ref=v0.1.0", "base?ref=main"),
        f"{DEV}/kustomization.yaml",
        "?ref=v0.1.0",
    ),
    "a key of the project that is none": (edit("sluice.yaml", "images: ", "image: "), "sluice.yaml", "image"),
    "a project of tomorrow": (edit("sluice.yaml", '"0.1.0"', '"99.0"'), "sluice.yaml", "was made by version 99.0"),
    "an environment without an overlay": (edit("sluice.yaml", "prod ]", "prod, test ]"), "sluice.yaml", "'test'"),
    "a task of another name": (edit(TASK, 'name="returns"', 'name="parcels"'), TASK, "'parcels'"),
    "no task": (edit("sluice.yaml", "task:TASK", "task:TASKS"), TASK, "has no TASKS"),
    "no Python": (edit(TASK, "TASK = TableTask(", "TASK = TableTask(("), TASK, "no Python"),
    "a table that is not there": (file(DATA, None), TASK, "cannot be read"),
    "a key without its comma": (edit(TASK, 'keys=("shop",)', 'keys=("shop")'), TASK, "write ('shop',) with its comma"),
    "semicolons between columns": (
        each_of(rows(lambda row: row.replace(",", ";")), edit(DATA, HEAD, HEAD.replace(",", ";"))),
        TASK,
        "has ';' between its columns",
    ),
    "an amount that is no number": (
        rows(lambda row: re.sub(r"\d+\.\d+", "NaN", row, count=1)),
        TASK,
        "'amount' is NaN or infinite in 1000 of 1000 rows",
    ),
    "a history without a store": (edit("sluice.yaml", "feature_repo: feature_repo\n", ""), TASK, "feature store"),
    "a feature store without its file": (file("feature_repo/feature_store.yaml", None), "sluice.yaml", "feature_store"),
    "no story": (edit("sluice.yaml", "story:STORY", "story:STORIES"), "src/returns/story.py", "has no STORIES"),
    "a story of no module": (edit("sluice.yaml", "story:STORY", "storry:STORY"), "sluice.yaml", "'returns.storry'"),
    "a schema that is not there": (file(DATA.replace(".csv", ".schema.json"), None), TASK, "--write-schema"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_place(project: Path, name: str) -> None:
    change, path, words = MISTAKES[name]
    change(project)
    found = found_in(project)
    named = [each for each in found if each.path == path and words in each.text]
    assert named, [each.text for each in found]
    assert all(each.fix and each.line >= 1 and "\n" not in each.text for each in found)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("times without a zone", 'time="ordered_at"'),
        ("the label among inputs", "inputs="),
        ("a constant label", 'label="returned"'),
        ("a misspelt slice", "chanel"),
        ("an unknown metric", "{metric: los,"),
        ("an image by its tag", "newTag"),
        ("a package that no image has", "import pytest"),
        ("a key without its comma", "keys="),
        ("a history without a store", "history="),
        ("a story of no module", "story:"),
    ],
)
def test_the_line_is_the_one_to_change(project: Path, name: str, line: str) -> None:
    change, path, words = MISTAKES[name]
    change(project)
    (at, *_) = [each.line for each in found_in(project) if each.path == path and words in each.text]
    assert line in (project / path).read_text("utf-8").splitlines()[at - 1]


def test_all_is_named_at_once(project: Path) -> None:
    names = (
        "times without a zone",
        "a misspelt slice",
        "an image by its tag",
        "a policy of another task",
    )
    for name in names:
        MISTAKES[name][0](project)
    found = found_in(project)
    assert [name for name in names if not _names(found, name)] == []


def _names(found: list[Mistake], name: str) -> bool:
    _, path, words = MISTAKES[name]
    return any(each.path == path and words in each.text for each in found)


def test_an_authors_own_error_shows_the_authors_own_lines(project: Path) -> None:
    prepared("return inner(frame)")(project)
    edit(TASK, "def prepared", "def inner(frame):\n    return frame.drop('colour')\n\n\ndef prepared")(project)
    (found,) = [each for each in found_in(project) if each.trace]
    assert found.path == TASK
    assert re.match(rf"{TASK}:\d+ in inner: return frame.drop\('colour'\)", found.trace[0])
    assert " in prepared: " in found.trace[1]
    assert found.trace[-1].startswith("handed over: a table of 1000 rows with ordered_at")
    assert len(found.trace) == 3


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("features", ["none", "feast"])
def test_a_new_repository_has_nothing_wrong_and_is_small(tmp_path: Path, kind: str, features: str) -> None:
    folder = begun(tmp_path, kind=kind, features=features)
    began = time.process_time()
    assert [each.text for each in found_in(folder)] == []
    assert time.process_time() - began < 5
    assert len((folder / TASK).read_text("utf-8").splitlines()) <= 40
