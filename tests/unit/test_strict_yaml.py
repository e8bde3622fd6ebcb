"""YAML of people: what is ambiguous, endless or not YAML is refused in one line."""

from __future__ import annotations

import math

import pytest

from sluice.strict_yaml import line_of, read_yaml


def test_anchors_and_merge_keys_may_be_used() -> None:
    assert read_yaml(b"a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n") == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


def test_an_empty_document_is_nothing() -> None:
    assert read_yaml(b"# only words\n") is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b"a: 1\nb: 2\na: 3\n", "key 'a' is there twice, line 3"),
        (b"a:\n  b: 1\n  b: 1\n", "key 'b' is there twice, line 3"),
        (b"a: &a [*a]\n", "contains itself"),
        (b"[" * 5000, "too deep"),
        (b"a: 2013-99-99\n", "month must be in 1..12"),
        (b"? [a]\n: 1\n", "unhashable key"),
        (b"a: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
        (b"\x9c\x00", "invalid leading UTF-8 octet"),
        (b"--- 1\n--- 2\n", "expected a single document"),
        (b"#" * ((1 << 20) + 1), "larger than"),
        (b"[" + b"x," * 20_001 + b"]", "more than 20000 values"),
    ],
)
def test_what_is_not_plain_is_refused_in_one_line(text: bytes, rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as caught:
        read_yaml(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("-1E+3", -1000.0),
        ("1.5e3", 1500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("+12", 12),
        ("0", 0),
        ("0.10", 0.1),
        ("0x1F", 31),
        ("0o10", 8),
        ("-.INF", -math.inf),
        ("TRUE", True),
        ("False", False),
        ("tRue", "tRue"),
        ("~", None),
        ("Null", None),
        ("", None),
        ("y", "y"),
        ("=", "="),
        ("0o9", "0o9"),
        ("1.2.3", "1.2.3"),
        ("12-24", "12-24"),
        ("2013-01-01", "2013-01-01"),
        ("2013-08-01T05:00:00Z", "2013-08-01T05:00:00Z"),
        ("'on'", "on"),
        ('"010"', "010"),
        ("!!str 2:00", "2:00"),
        ("!!float 1", 1.0),
        ("|\n  on", "on\n"),
    ],
)
def test_words_and_numbers_are_those_of_yaml_1_2(text: str, value: object) -> None:
    read = read_yaml(f"a: {text}\n".encode())["a"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "spellings"),
    [
        ("2:00", '120 or "2:00"'),
        ("190:20:30.15", '685230.15 or "190:20:30.15"'),
        ("010", "8 or 10"),
        ("-010", "-8 or -10"),
        ("08", '"08" or 8'),
        ("!!int 010", "8 or 10"),
        ("1_0", '10 or "1_0"'),
        ("1_000.5", '1000.5 or "1_000.5"'),
        ("0b11", '3 or "0b11"'),
        ("-0x1F", '-31 or "-0x1F"'),
        ("on", 'true or "on"'),
        ("NO", 'false or "NO"'),
    ],
)
def test_a_spelling_that_readers_understand_unlike_is_refused_with_what_may_be_meant(text: str, spellings: str) -> None:
    documents = [f"b: 1\na: {text}\n", f"-\n  - {text}\n"]
    documents += [f"b: 1\n{text}: a\n"] if "!!" not in text else []
    assert {_refusal(document) for document in documents} == {f"write {spellings}"}


def _refusal(document: str) -> str:
    """What it says to do."""
    with pytest.raises(ValueError, match="in line 2, which readers of YAML understand unlike") as caught:
        read_yaml(document.encode())
    return str(caught.value).rpartition(": ")[2]


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ((), 1),
        (("a",), 1),
        (("a", "x"), 2),
        (("b", 1, "y"), 6),
        (("b", 1, "absent", "below"), 5),
        (("b", 9), 3),
        (("c", "x"), 2),
        (("c", "z"), 9),
        (("d", "x"), 2),
        (("nothing",), 1),
        (("a", "x", "deeper"), 2),
    ],
)
def test_a_key_is_found_on_its_line_or_on_the_line_above_it_that_is_there(
    keys: tuple[str | int, ...], line: int
) -> None:
    text = b"a: &a\n  x: 1\nb:\n  - 1\n  - x: 1\n    y: 2\nc:\n  <<: *a\n  z: 3\nd: *a\n"
    assert read_yaml(text)
    assert line_of(text, keys) == line
