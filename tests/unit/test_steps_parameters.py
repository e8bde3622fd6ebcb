"""What a run is asked for is checked before anything starts, and every default is settled once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sluice.errors import BadArtifact, BadInput, Refused, Unavailable
from sluice.gates.policy import parse_policy
from sluice.models.store import read_bundle, store_bundle
from sluice.steps.error_boundary import exit_on_error
from sluice.steps.parameters import PromotionParameters, TrainingParameters
from sluice.steps.settlement import SettledParameters, settle
from sluice.strict_yaml import read_yaml
from sluice.tasks.recipe import Recipe
from tests.support import tiny_task
from tests.support.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]
GIVEN = {
    "task": "tests.support.tiny_task:TASK",
    "environment": "dev",
    "feature_repo": str(ROOT / "feature_repo"),
    "overlays": str(ROOT / "tests/support/tiny_checkout/manifests/overlays"),
}
DIGEST = "sha256:" + "0" * 64
OTHER = Recipe(name="other", description="Another.", features=("amount",))


def settled(changed: dict[str, str], job: tuple[str, str] = ("by-hand", "42")) -> SettledParameters:
    return settle(TrainingParameters.parse(GIVEN | changed), job)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"task": "../etc"}, "task"),
        ({"environment": "Prod"}, "environment"),
        ({"recipe": "{}"}, "recipe: name"),
        ({"gitops": "not a url", "bundles": "s3://b/t"}, "gitops"),
        ({"gitops": "https://me:secret@host/r.git", "bundles": "s3://b/t"}, "gitops"),
        ({"gitops": "ssh://git@host/r.git"}, "bundles"),
        ({"bundles": "ftp://b/t"}, "bundles"),
        ({"production": "latest"}, "production"),
        ({"production": DIGEST}, "bundles"),
        ({"source": "sha256:1"}, "source"),
        ({"distribution": "multi_worker"}, "distribution"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"checkpoints": "tmp"}, "checkpoints"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_name(changed: dict[str, Any], name: str) -> None:
    with pytest.raises(BadInput, match=f"^parameter {name}: ") as caught:
        TrainingParameters.parse(GIVEN | changed)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("changed", [{"now": "tomorrow"}, {"task": "nowhere"}, {"policy": "x: 1"}])
def test_a_time_task_or_policy_that_is_none_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        TrainingParameters.parse(GIVEN | changed)


@pytest.mark.parametrize("place", ["s3://b/t", "gs://b/t", "file:///b", "/mnt/bundles"])
def test_a_store_is_a_folder_or_a_url(place: str) -> None:
    parameters = TrainingParameters.parse(
        GIVEN | {"bundles": place, "gitops": "git@host:team/r.git", "production": DIGEST}
    )
    assert parameters.bundles == place


def test_defaults_are_settled_and_name_the_run() -> None:
    made = settled({})
    named = json.loads(made.run)
    assert made.production == ""
    assert "kind: GatePolicy" in made.policy
    assert made.now.endswith("Z")
    assert named["source"] == made.source
    assert named["now"] == made.now
    assert json.loads(made.recipe)["name"] == tiny_task.TASK.recipe.name
    again = settled({"now": made.now})
    assert again == made
    other = settled({"now": made.now}, ("by-hand", "43"))
    assert json.loads(other.run)["id"] != named["id"]


def test_what_was_given_is_left_as_it_is() -> None:
    given = {"now": "2026-01-01T00:00:00Z", "production": "", "source": DIGEST}
    made = settled(given)
    assert (made.now, made.production, made.source) == tuple(given.values())


@pytest.mark.parametrize(("job", "name"), [(("by-hand", "42"), "by-hand"), (("", "42"), "42")])
def test_a_run_is_named_and_leads_back_to_kfps_whoever_started_it(job: tuple[str, str], name: str) -> None:
    """A schedule gives its runs no name."""
    named = json.loads(settled({}, job).run)
    assert (named["name"], named["kfp_run"]) == (name, "42")


def test_what_a_run_is_called_by_hand_wins_and_the_rest_is_filled_in() -> None:
    made = settled({"run": '{"id": "mine", "ticket": "T-1"}'})
    named = json.loads(made.run)
    assert (named["id"], named["ticket"], named["kfp_run"], named["code"]) == ("mine", "T-1", "42", made.code)
    assert "kfp_run" not in json.loads(settled({"run": '{"kfp_run": ""}'}).run)


@pytest.mark.parametrize("text", ["mine", "[1]", '"x"', '{"id": 1}', '{"id": ""}', '{"code": ""}', "null"])
def test_what_names_no_run_is_refused_before_it_starts(text: str) -> None:
    with pytest.raises(BadInput, match=r"^parameter run: .*; it is: JSON object on one line"):
        TrainingParameters.parse(GIVEN | {"run": text})


def test_a_policy_may_be_json_on_one_line_and_what_the_form_makes_of_yaml_is_told() -> None:
    text = (Path(GIVEN["overlays"]) / "dev/gate-policy.yaml").read_text()
    line = json.dumps(read_yaml(text.encode()), default=str)
    assert "\n" not in line
    made = settled({"policy": line})
    assert parse_policy(made.policy.encode(), "it") == parse_policy(text.encode(), "it")
    for lost in (" ".join(text.split()), text.replace("\n", ""), "dev"):
        with pytest.raises(
            BadInput, match=r"parameter policy: is neither .*; write it as JSON on one line .*gate-policy.yaml"
        ):
            settled({"policy": lost})
    with pytest.raises(BadInput, match="surprise"):
        settled({"policy": line.replace("{", '{"surprise": 1, ', 1)})


def test_a_recipe_is_json_or_a_name_of_one() -> None:
    named = settled({"recipe": f"{__name__}:OTHER"})
    assert named.recipe == settled({"recipe": OTHER.model_dump_json(indent=1)}).recipe == OTHER.model_dump_json()
    for wrong, rule in (
        ("flights-all", "recipe 'flights-all': cannot be loaded .*; name a recipe as module:ATTRIBUTE, or write JSON"),
        (f"{__name__}:DIGEST", "is a str, not a Recipe"),
        ("{", "parameter recipe: the document: .*; write a JSON object on one line, of name, description"),
    ):
        with pytest.raises(BadInput, match=rule):
            settled({"recipe": wrong})


def test_a_refusal_says_what_the_parameter_is_since_the_form_does_not() -> None:
    with pytest.raises(BadInput, match=r"got 0; it is: steps between two checkpoints, 1 to 1000000$"):
        TrainingParameters.parse(GIVEN | {"checkpoint_every": 0})
    with pytest.raises(BadInput, match="; choose of bundles, checkpoint_every, "):
        TrainingParameters.parse(GIVEN | {"surprise": 0})


def test_a_policy_may_be_the_name_of_a_file_in_the_image(tmp_path: Path) -> None:
    text = (Path(GIVEN["overlays"]) / "dev/gate-policy.yaml").read_text()
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/strict-policy.yaml").write_text(text + "# strict\n")
    made = settled({"overlays": str(tmp_path), "policy": " strict-policy.yaml"})
    assert made.policy.endswith("# strict\n")
    assert settled({"policy": text}).policy == text
    with pytest.raises(BadInput, match=r"dev/lax\.yaml: cannot be read .*\(here: strict-policy\.yaml\)"):
        settled({"overlays": str(tmp_path), "policy": "lax.yaml"})
    for outside in ("../dev/strict-policy.yaml", "/etc/passwd", "strict"):
        with pytest.raises(BadInput, match="nor the name of a file"):
            settled({"overlays": str(tmp_path), "policy": outside})


def test_a_policy_of_another_task_is_refused() -> None:
    with pytest.raises(BadInput, match="gate policy: is for flights dev, the run is for tiny dev"):
        settled({"overlays": str(ROOT / "manifests/overlays")})


def test_an_environment_without_a_policy_is_named() -> None:
    with pytest.raises(BadInput, match="nowhere/gate-policy.yaml: cannot be read".replace(".", r"\.")):
        settled({"environment": "nowhere"})


@pytest.mark.parametrize(
    ("changed", "name"), [({"digest": "x"}, "digest"), ({"gitops": ""}, "gitops"), ({"bundles": ""}, "bundles")]
)
def test_a_promotion_is_checked_too(changed: dict[str, str], name: str) -> None:
    whole = {"gitops": "/r.git", "bundles": "/b", "digest": DIGEST, "environment": "staging", "now": ""}
    assert PromotionParameters.parse(whole).digest == DIGEST
    with pytest.raises(BadInput, match=f"^parameter {name}: "):
        PromotionParameters.parse(whole | changed)


@pytest.mark.parametrize("kind", ["{}", "file://{}"])
def test_a_bundle_comes_back_from_the_store_as_it_went(kind: str, tmp_path: Path) -> None:
    digest = write_tiny_bundle(tmp_path / "made", 0.5)
    bundle = read_bundle(str(tmp_path / "made"), digest, {})
    store = kind.format(tmp_path / "store")
    for _ in range(2):
        store_bundle(bundle, store, {})
    assert read_bundle(store, digest, {}).files == bundle.files
    folder = tmp_path / "store" / digest.replace(":", "-")
    (folder / "model.tflite").write_bytes(b"other")
    with pytest.raises(BadArtifact):
        read_bundle(store, digest, {})


def test_a_store_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    digest = write_tiny_bundle(tmp_path / "made", 0.5)
    bundle = read_bundle(str(tmp_path / "made"), digest, {})
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be written"):
        store_bundle(bundle, f"file://{tmp_path}/file/store", {})


def test_an_error_ends_a_step_in_one_line_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    for error, code in ((BadInput("a", "b", "c"), 2), (Refused("a", "b", "c"), 3)):
        with pytest.raises(SystemExit) as caught, exit_on_error():
            raise error
        assert caught.value.code == code
        assert capsys.readouterr().err == f"sluice: {type(error).__name__}: a: b; c\n"
    with pytest.raises(ZeroDivisionError), exit_on_error():
        _ = 1 / 0
