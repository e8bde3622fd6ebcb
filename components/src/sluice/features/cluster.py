"""
The feature store of a cluster: the same definitions as on one machine, and stores that many processes share.

Environment:
    SLUICE_REDIS             host:port[,ssl=true][,db=0] of the online store
    SLUICE_REDIS_PASSWORD    from a Secret; none when left out
    SLUICE_FEATURES          folder or s3://bucket/prefix of ``registry.db`` and ``offline/<view>.parquet``; who only
                             reads online needs none
    AWS_…                    of the S3-compatible store, see ``sluice.object_store``

Feast keeps on-demand functions in its registry as dill, so whoever may write the registry may run code wherever it is
read. Nothing here reads one: the definitions come with the image, are applied to a registry of the process's own, and
the shared registry is written for Feast's other tools alone.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from feast import FeatureStore
from feast.repo_config import RepoConfig

from sluice.errors import BadInput
from sluice.features.definitions import apply_objects, load_definitions
from sluice.features.manifest import FeatureManifest
from sluice.features.reader import OnlineReader
from sluice.features.tables import tables_at

CLUSTER = "feature_store.cluster.yaml"
SPARK = "feature_store.spark.yaml"
_VARIABLE = re.compile(r"\$\{(\w+)(:-)?\}")


@contextmanager
def cluster_store(
    repo: Path, environment: Mapping[str, str], config: str = CLUSTER, **online: Any
) -> Iterator[FeatureStore]:
    """
    Feast on the cluster's stores, with the definitions in ``repo``.

    Args:
        repo: folder with the definitions and ``config``.
        environment: the variables that the module names.
        config: which of the configurations in ``repo``.
        online: settings of the online store that differ from the file's.

    Raises:
        BadInput: there is no such configuration or no definitions, or a variable is not set.
    """
    with tempfile.TemporaryDirectory(prefix="sluice-registry-") as scratch:
        registry = {"registry_type": "file", "path": f"{scratch}/registry.db"}
        yield apply_definitions(repo, environment, config, registry, online)


def apply_definitions(
    repo: Path,
    environment: Mapping[str, str],
    config: str,
    registry: Mapping[str, Any] | None = None,
    online: Mapping[str, Any] | None = None,
) -> FeatureStore:
    """Feast as ``config`` says, with the definitions applied to ``registry``; the file's own when left out."""
    path = repo / config
    if not path.is_file():
        raise BadInput(str(repo), f"has no {config}", "name the folder with the feature definitions")
    document = yaml.safe_load(path.read_text())
    if registry is not None:
        document["registry"] = dict(registry)
    document["online_store"] |= online or {}
    feast = FeatureStore(config=RepoConfig(**_expand(document, environment), repo_path=repo))
    with tables_at(f"{environment.get('SLUICE_FEATURES', 'nowhere')}/offline"):
        objects = load_definitions(repo)
    apply_objects(feast, objects, repo)
    return feast


def cluster_reader(repo: Path, environment: Mapping[str, str], manifest: FeatureManifest) -> OnlineReader:
    """
    The one reader, on the cluster's online store. Redis need not be there yet.

    Raises:
        BadInput: ``repo`` or ``environment`` lacks something.
        BadArtifact: the definitions are not the ones that the model was trained with.
    """
    with cluster_store(repo, environment) as feast:
        return OnlineReader(feast, manifest)


def _expand(value: Any, environment: Mapping[str, str]) -> Any:
    """Variables are put in after YAML was parsed: a password may hold any character."""
    if isinstance(value, dict):
        return {name: _expand(item, environment) for name, item in value.items()}
    if not isinstance(value, str):
        return value

    def substitute(match: re.Match[str]) -> str:
        name, optional = match.groups()
        if not optional and not environment.get(name):
            raise BadInput(f"environment variable {name}", "is not set", "set it; sluice.features.cluster says to what")
        return environment.get(name, "")

    return _VARIABLE.sub(substitute, value)
