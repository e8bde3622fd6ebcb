"""The tiny story is played once; every test that only reads its end shares it, in whatever process it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock
from pydantic import TypeAdapter

from tests.support.tiny_run import Ended, play

LONG = 3600
"""Seconds for what waits until a story ended: half a minute alone, and many where a machine is busy."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever comes first plays the story, and the others wait for it."""
    for item in items:
        if "ended" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(LONG))


@pytest.fixture(scope="session")
def ended(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Ended:
    """A home in which the tiny story ended undisturbed; not to be changed."""
    own = tmp_path_factory.getbasetemp()
    root = own if worker_id == "master" else own.parent  # xdist gives each of its processes a folder below one
    with FileLock(root / "ended.lock"):
        return _played(root / "ended")


def _played(root: Path) -> Ended:
    document, ending = root / "ended.json", TypeAdapter(Ended)
    if not document.exists():
        root.mkdir(exist_ok=True)
        document.write_bytes(ending.dump_json(play(root)))
    return ending.validate_json(document.read_bytes())
