"""The committed dashboards are what the code says, and hang together."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice.monitoring.dashboards import DASHBOARDS, config_maps

COMMITTED = Path(__file__).parents[2] / "manifests/monitoring/dashboards.yaml"
MAPS = list(yaml.safe_load_all(COMMITTED.read_text()))


def test_the_committed_dashboards_are_what_the_code_says() -> None:
    assert config_maps() == COMMITTED.read_text(), "run `python -m sluice.monitoring.dashboards`, see its docstring"


@pytest.mark.parametrize("found", MAPS, ids=lambda found: str(found["metadata"]["name"]))
def test_a_config_map_is_a_dashboard_that_a_sidecar_finds(found: dict[str, Any]) -> None:
    assert found["metadata"]["labels"] == {"grafana_dashboard": "1", "seldon_dashboard": "1"}
    ((file, text),) = found["data"].items()
    document = json.loads(text)
    assert file == f"{document['uid']}.json"
    variables = {variable["name"] for variable in document["templating"]["list"]} | {"__rate_interval"}
    places = set()
    for panel in document["panels"]:
        places.add((panel["gridPos"]["x"], panel["gridPos"]["y"]))
        for target in panel["targets"]:
            assert set(re.findall(r"\$([a-z_]+)", target["expr"])) <= variables
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= {
                *("environment", "task", "route", "short", "cause", "part", "le", "feature"),
                *("stage", "side", "verdict", "action"),
            }
    assert len(places) == len(document["panels"]), "no two lie on each other"


def test_every_dashboard_is_committed_once() -> None:
    assert sorted(found["metadata"]["name"] for found in MAPS) == sorted(
        f"sluice-dashboard-{name}" for name in DASHBOARDS
    )
