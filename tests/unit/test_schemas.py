"""The published schemas are what the models say, closed, and explained."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.documents.evidence import ArmMoments, Evidence
from sluice.documents.minutes import Minutes
from sluice.documents.state import ReleaseState
from sluice.errors import BadArtifact
from sluice.gates.policy import GatePolicy
from sluice.schemas import check, schemas
from tests.support.loss_blocks import history, in_blocks
from tests.support.release import evidence_of, state_in

PUBLISHED = Path(__file__).parents[2] / "docs" / "schemas"
_ONE_MORE = {"hesitation": ArmMoments(candidate=None, stable=None)}
_NO_MINUTES = Minutes(candidate=None, stable=None)


def test_what_is_published_is_what_the_models_say() -> None:
    assert {path.name: path.read_bytes() for path in PUBLISHED.iterdir()} == schemas()
    check(PUBLISHED)


def test_the_command_writes_them_and_notices_a_stale_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sluice.schemas"]
    subprocess.run([*command, tmp_path], check=True)
    assert {path.name for path in tmp_path.iterdir()} == set(schemas())
    check(tmp_path)
    stale = tmp_path / "evidence.schema.json"
    stale.write_text(stale.read_text().replace("One look.", "Two looks."))
    with pytest.raises(BadArtifact, match=r"evidence\.schema\.json"):
        check(tmp_path)


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for value in schema.values():
            yield from _objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _objects(value)


@pytest.mark.parametrize("name", sorted(schemas()))
def test_every_object_is_closed_and_says_what_it_is(name: str) -> None:
    schema = json.loads(schemas()[name])
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    objects = list(_objects(schema))
    assert objects
    for found in objects:
        assert found["additionalProperties"] is False
        assert found["description"]


def test_keys_carry_the_words_of_the_code() -> None:
    rules = json.loads(schemas()["policy.schema.json"])["$defs"]["CanaryStage"]["properties"]
    assert rules["minimum_n"]["description"] == "Requests of the candidate before any verdict but FAIL."
    assert (rules["minimum_n"]["minimum"], rules["steps"]["minItems"]) == (30, 1)


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("release-state", state_in("canary", paused=True, block_hours=6.0).model_dump(mode="json")),
        (
            "evidence",
            in_blocks(
                evidence_of(state_in("canary"), measurements=_ONE_MORE, recent=(9, 1), minutes=_NO_MINUTES),
                history=history(),
            ).model_dump(mode="json"),
        ),
    ],
)
def test_a_whole_document_has_the_keys_of_its_schema(name: str, document: dict[str, Any]) -> None:
    schema = json.loads(schemas()[f"{name}.schema.json"])
    assert set(schema["required"]) <= set(document) == set(schema["properties"])


@pytest.mark.parametrize(
    ("name", "model"), [("policy", GatePolicy), ("release-state", ReleaseState), ("evidence", Evidence)]
)
def test_the_schema_asks_for_what_the_model_asks_for(name: str, model: Any) -> None:
    schema = json.loads(schemas()[f"{name}.schema.json"])
    needed = [key for key, field in model.model_fields.items() if field.is_required()]
    assert schema["required"] == needed
