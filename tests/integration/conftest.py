"""The tiny story is played once; every test that only reads its end shares it."""

from __future__ import annotations

import pytest

from tests.support.tiny_run import Ended, play


@pytest.fixture(scope="session")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A home in which the tiny story ended undisturbed; not to be changed."""
    return play(tmp_path_factory.mktemp("ended"))
