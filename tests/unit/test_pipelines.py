"""The compiled pipelines are what the sources say, and install nothing at run time."""

from __future__ import annotations

from pathlib import Path

from pipelines.compile import COMPILED, PIPELINES, compile_into


def test_committed_yaml_is_what_the_sources_compile_to(tmp_path: Path) -> None:
    fresh = compile_into(tmp_path)
    assert [path.stem for path in fresh] == sorted(PIPELINES)
    for path in fresh:
        assert (COMPILED / path.name).read_bytes() == path.read_bytes(), f"run `make compile`: {path.name} is old"


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = compile_into(tmp_path / "a"), compile_into(tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_no_step_installs_anything() -> None:
    for path in COMPILED.glob("*.yaml"):
        assert "pip install" not in path.read_text()
