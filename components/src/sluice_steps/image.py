"""The images that steps run in, as ``manifests/images`` names them: pipelines and clusters run the same."""

from pathlib import Path

from sluice.installation import MANIFESTS
from sluice.strict_yaml import read_yaml

IMAGES = MANIFESTS / "images/kustomization.yaml"


def image(name: str, source: Path = IMAGES) -> str:
    """``sluice/<name>`` as it is pulled: by digest once a release has written one, by tag before."""
    (entry,) = [entry for entry in read_yaml(source.read_bytes())["images"] if entry["name"] == f"sluice/{name}"]
    version = f"@{entry['digest']}" if "digest" in entry else f":{entry['newTag']}"
    return f"{entry['newName']}{version}"
