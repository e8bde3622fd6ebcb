"""The server without the packages that its image leaves out: it starts, reads features, predicts, and can fetch."""

from __future__ import annotations

import http.client
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import packages_distributions
from pathlib import Path
from urllib.parse import urlsplit

from sluice.child_process import ChildServer
from sluice.data.ingest import ingest
from sluice.features.build import build_features
from sluice.features.publish import FeaturePublisher
from sluice.workspace import bundle_directory
from tests.support.patience import url_of
from tests.support.tiny_bundle import tiny_rows, write_tiny_bundle
from tests.support.tiny_task import TASK

ROOT = Path(__file__).parents[2]
NOW = datetime(2024, 4, 10, 12, 20, tzinfo=UTC)
SCRIPT = """
import runpy, sys
from datetime import UTC, datetime
from pathlib import Path
for name in sys.argv[1].split(","):
    sys.modules[name] = None  # importing it is an error
from sluice.features.manifest import FeatureManifest
from sluice.features.reader import OnlineReader
manifest = FeatureManifest.model_validate_json(Path(sys.argv[2]).read_bytes())
read = OnlineReader(Path(sys.argv[3]), manifest).read([{"shop": "oak", "amount": 10.0, "hour": 3}], datetime.now(UTC))
assert len(read.rows) == 1
import polars
from sluice.features.parity import FeatureHistory, offline_cells
from tests.support.tiny_task import TASK
history = FeatureHistory.at(TASK, Path(sys.argv[3]) / "repo", sys.argv[3])
columns = {"event_time": [datetime(2024, 4, 10, 12, 20, tzinfo=UTC)], "shop": ["oak"], "amount": [10.0], "hour": [3]}
[again] = offline_cells(history, polars.DataFrame(columns), manifest.names).cells.to_dicts()
assert again["shop_orders"] is not None
import pyarrow.fs, sluice.models.fetch
assert pyarrow.fs.S3FileSystem and pyarrow.fs.GcsFileSystem and pyarrow.fs.AzureFileSystem
sys.argv = ["predictor", *sys.argv[4:]]
runpy.run_module("sluice_serving.predictor", run_name="__main__")
"""


def left_out() -> set[str]:
    """Top-level modules of the packages that the image leaves out."""
    text = (ROOT / "serving/Dockerfile").read_text().replace("\\\n", "")
    (names,) = re.findall(r'ARG LEFT_OUT="(.*)"', text)
    packages = set(names.split())
    found = {
        module
        for module, owners in packages_distributions().items()
        if {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} <= packages
    }
    assert len(found) >= len(packages)
    return found


def test_a_server_never_imports_what_its_image_leaves_out(tmp_path: Path) -> None:
    ingest(TASK, tmp_path / "span")
    build_features(TASK, tmp_path / "span", ROOT / "tests/support/tiny_feature_repo", tmp_path / "b", tmp_path / "o")
    publisher = FeaturePublisher(TASK, tmp_path / "store", ROOT / "tests/support/tiny_feature_repo")
    publisher.reset(NOW - timedelta(days=2))
    publisher.advance(NOW)
    digest = write_tiny_bundle(tmp_path / "bundles")
    command = [sys.executable, "-c", SCRIPT, ",".join(sorted(left_out()))]
    command += [str(tmp_path / "o" / "manifest.json"), str(tmp_path / "store")]
    command += ["--bundle", str(bundle_directory(tmp_path / "bundles", digest)), "--digest", digest]
    child = ChildServer([*command, "--model_name", "tiny", "--http_port", "0"], tmp_path / "server.log")
    try:
        connection = http.client.HTTPConnection(urlsplit(url_of(child)).netloc, timeout=10)
        body = json.dumps({"instances": tiny_rows(3)})
        connection.request("POST", "/v1/models/tiny:predict", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200
        assert len(json.load(answer)["predictions"]) == 3
    finally:
        child.stop()
