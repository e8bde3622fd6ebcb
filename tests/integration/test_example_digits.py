"""The story of digits: its data is what its page says, its policy fits its target, its faults are what they say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sluice.data.ingest import ingest
from sluice.data.validate import validate
from sluice.features.build import build_features
from sluice.gates.policy import parse_policy
from sluice.release.snapshot import seed_files
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import load_task
from sluice.training.frame import prepared_frame
from sluice_examples.digits import images
from sluice_examples.digits.story import INVERTED, LOST_SEVENS, STORY
from sluice_examples.digits.task import TASK, read_examples
from sluice_local.story import load_story

POLICY = "manifests/overlays/dev/gate-policy.yaml"


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the features step, made by the steps before training."""
    folder = tmp_path_factory.mktemp("digits")
    ingest(TASK, folder / "span")
    assert validate(TASK, folder / "span", folder).anomalies == ()
    build_features(TASK, folder / "span", folder / "store", Path("no-such-folder"), folder / "frame")
    return folder / "frame"


def cells(frame: Path, recipe: Recipe) -> pl.DataFrame:
    return prepared_frame(frame, recipe, TASK.target)


def image_numbers(rows: pl.DataFrame) -> set[str]:
    return set(rows["example_id"].str.split("-").list.last())


def test_no_image_is_in_two_splits_nor_in_live(frame: Path) -> None:
    rows = cells(frame, TASK.recipe)
    assert Counter(rows["split"]) == {"train": 800, "tune": 200, "test": 500}
    live = read_examples(TASK.splits.live, TASK.splits.end)
    parts = [*(image_numbers(part) for part in rows.partition_by("split")), image_numbers(live)]
    assert [len(part) for part in parts] == [800, 200, 500, 297]
    assert len(set.union(*parts)) == 1797
    assert set(live["label"]) == set(images.CLASSES)


def test_rows_carry_the_packages_images_and_labels() -> None:
    from sklearn.datasets import load_digits

    bunch, rows = load_digits(), read_examples(TASK.splits.train, TASK.splits.live)
    numbers = rows["example_id"].str.split("-").list.last().cast(pl.Int64).to_numpy()
    assert np.array_equal(rows["image"].to_numpy(), bunch.images[numbers])
    assert rows["label"].to_list() == [images.CLASSES[label] for label in bunch.target[numbers]]


def test_live_requests_are_the_held_out_images_a_little_changed() -> None:
    from sklearn.datasets import load_digits

    bunch, live = load_digits(), read_examples(TASK.splits.live, TASK.splits.end)
    numbers = live["example_id"].str.split("-").list.last().cast(pl.Int64).to_numpy()
    away = live["image"].to_numpy().astype(float) - bunch.images[numbers]
    assert live.height == 20 * 24 * 60
    assert live["label"].to_list() == [images.CLASSES[label] for label in bunch.target[numbers]]
    assert live["image"].n_unique() > 0.99 * live.height
    assert 0.3 < float(np.abs(away).mean()) < 1.5
    assert live["image"].to_numpy().max() == images.BRIGHTEST
    # Independent draws: whether two requests in a row are of one class says nothing that its share does not.
    codes = TASK.target.codes(live["label"])
    shares = np.bincount(codes) / len(codes)
    assert float((codes[1:] == codes[:-1]).mean()) == pytest.approx(float((shares**2).sum()), abs=0.01)


def test_images_are_moved_by_less_than_a_pixel_and_stay_on_white_paper() -> None:
    dot = np.zeros((500, 8, 8), np.uint8)
    dot[:, 0, 4] = 16
    moved = images.varied(np.random.default_rng(1), dot)
    assert moved[:, 0, 4].min() >= 16 * 0.75**2 - 1.5
    assert moved[:, 2:].max() == 0
    assert moved[:, 7].max() == 0, "what leaves at one edge comes in at the other"
    assert len({image.tobytes() for image in moved}) > 20


def test_the_story_is_whole_and_its_policy_fits_its_task() -> None:
    assert load_story("sluice_examples.digits.story:STORY") is STORY
    assert load_task(STORY.task) is TASK
    assert [chapter.number for chapter in STORY.chapters] == [1, 2, 3, 4]
    assert all(chapter.recipe and chapter.recipe.features == ("image",) for chapter in STORY.chapters)
    files = seed_files(Path(STORY.checkout or ""))
    policy = parse_policy(files[POLICY], POLICY, TASK.yardstick.metrics)
    assert policy.task == TASK.name
    assert b'"task=digits"' in files["manifests/overlays/dev/release/kustomization.yaml"]
    online = policy.online
    assert online.design_effect == 1
    hours = sum(stage.maximum_hours for stage in (online.shadow, online.canary, online.confirm) if stage)
    assert 4 * hours / 24 < 60


def test_the_lost_sevens_are_labelled_ones_in_train_alone(frame: Path) -> None:
    right, wrong = cells(frame, TASK.recipe), cells(frame, LOST_SEVENS)
    changed = right.filter(right["label"] != wrong["label"])
    assert set(changed["split"]) == {"train"}
    assert set(changed["label"]) == {"seven"}
    sevens = right.filter(split="train", label="seven").height
    assert 0.3 * sevens < changed.height < 0.7 * sevens
    assert set(wrong.filter(pl.col("example_id").is_in(changed["example_id"].implode()))["label"]) == {"one"}


def test_the_inverted_images_are_so_in_every_split_and_labels_stay(frame: Path) -> None:
    right, wrong = cells(frame, TASK.recipe), cells(frame, INVERTED)
    assert wrong["label"].to_list() == right["label"].to_list()
    assert np.array_equal(wrong["image"].to_numpy(), 16 - right["image"].to_numpy())
    assert wrong["image"].dtype == right["image"].dtype
