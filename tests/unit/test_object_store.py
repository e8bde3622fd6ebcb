"""One adapter for folders and object storage: whole or absent, one kind of refusal, a true list."""

from __future__ import annotations

import os
import re
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from sluice.errors import BadInput, Unavailable
from sluice.object_store import NoSuchObject, ObjectLocation, open_location
from tests.support.servers import s3_bucket


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket."""
    with s3_bucket("objects"):
        yield "s3://objects"


@pytest.fixture(params=["folder", "URL of a folder", "object storage"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectLocation:
    if request.param == "object storage":
        return open_location(f"{request.getfixturevalue('s3')}/{uuid.uuid4()}/")
    return open_location(str(tmp_path / "kept") if request.param == "folder" else (tmp_path / "kept").as_uri())


def test_what_is_written_is_read_listed_and_removed(place: ObjectLocation, tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.write_bytes(os.urandom(3 << 20))
    location = place / "a" / "b.bin"
    location.write(b"old")
    location.write(local)
    (place / "c.json").write(b"")
    assert location.read() == b"".join(location.blocks()) == local.read_bytes()
    assert location.read(7) == local.read_bytes()[:7]
    assert (place / "c.json").read() == b""
    assert [folder.name for folder in place.folders()] == ["a"]
    assert sorted(map(str, place.objects())) == [f"{place}/a/b.bin", f"{place}/c.json"]
    assert [each.read(1) for each in (place / "a").objects()] == [local.read_bytes()[:1]]
    location.delete()
    assert [each.name for each in place.objects()] == ["c.json"]


def test_what_is_absent_is_told_from_what_does_not_answer(place: ObjectLocation) -> None:
    location = place / "absent"
    for call in (location.read, location.delete, location.dataset, lambda: list(location.blocks())):
        with pytest.raises(NoSuchObject, match=r"absent: cannot be (read|removed) [(]"):
            call()
    assert (location.objects(), location.folders()) == ([], [])


def test_a_write_that_is_interrupted_leaves_the_whole_object_or_the_old_one(s3: str) -> None:
    location, size = open_location(s3) / str(uuid.uuid4()), 24 << 20

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for after in (0.005, 0.02):
            location.write(b"old")
            signal.setitimer(signal.ITIMER_REAL, after)
            with pytest.raises(KeyboardInterrupt):
                location.write(bytes(size))
            assert len(location.read()) in (3, size)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_store_that_is_away_refuses_in_one_line_with_no_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ACCESS_KEY_ID": "key",
        "SECRET_ACCESS_KEY": "topsecret",
        "DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    location = open_location("s3://objects", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}) / "x"
    errors = []
    for call in (location.read, location.objects, lambda: location.write(b"x")):
        with pytest.raises(Unavailable) as caught:
            call()
        errors.append(caught.value)
    rule = re.compile(r"s3://objects/x: cannot be (read|listed|written) .*; check the store.*")
    assert [match and match[1] for match in map(rule.fullmatch, map(str, errors))] == ["read", "listed", "written"]
    assert not any(isinstance(error, NoSuchObject) or "topsecret" in str(error) for error in errors)


def test_an_address_of_no_store_is_refused() -> None:
    with pytest.raises(BadInput, match="carrier-pigeon://loft: cannot be opened"):
        open_location("carrier-pigeon://loft")
