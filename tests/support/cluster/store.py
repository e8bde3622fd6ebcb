"""A store with bundles that runs as a pod."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.cluster.kubectl import Object, apply, available, wait_until
from tests.support.cluster.stand_ins import RESTRICTED, behind_a_service
from tests.support.shop_visits import write_online_bundle
from tests.support.tiny_bundle import FAILING_MODEL, write_tiny_bundle

STORE = "sluice-test-store"


@dataclass(frozen=True)
class Bundles:
    """Digests of bundles in the test's store."""

    first: str
    second: str
    third: str
    tampered: str
    """Its model is not what its manifest says."""
    failing: str
    """It answers every request with an error."""
    signer: str
    """Public key in PEM of who signed ``first``; ``second`` has somebody else's signature, ``third`` none."""
    online: str
    """Reads the features of ``tests/support/shop_visits_repo``."""


def fill_store(root: Path) -> Bundles:
    """Write bundles, and start a store that has them."""
    models = root / "models/tiny"
    first, second, third, tampered = (write_tiny_bundle(models, threshold) for threshold in (0.5, 0.6, 0.7, 0.8))
    failing = write_tiny_bundle(models, model=FAILING_MODEL)
    found = Bundles(first, second, third, tampered, failing, _sign(models, first), write_online_bundle(models))
    _sign(models, found.second)
    model = models / found.tampered.replace(":", "-") / "model.tflite"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    apply(_store_objects(root))
    wait_until("the store runs", lambda: available(STORE, "store"), 180)
    return found


def _sign(models: Path, digest: str) -> str:
    """Sign a stored bundle with a key that nobody keeps; returns the public one."""
    key, name = Ed25519PrivateKey.generate(), digest.replace(":", "-")
    signature = base64.b64encode(key.sign((models / name / "bundle.json").read_bytes()))
    (models / f"{name}.sig").write_bytes(signature)
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _store_objects(root: Path) -> list[Object]:
    files = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    keys = {name: f"object-{number}" for number, name in enumerate(files)}
    metadata = {"namespace": STORE, "name": "store"}
    container = {
        "name": "store",
        "image": os.environ["SLUICE_TEST_SERVING_IMAGE"],
        "command": ["python", "/script/object_store.py", "/objects", "/written"],
        "securityContext": RESTRICTED | {"readOnlyRootFilesystem": True},
        "readinessProbe": {"tcpSocket": {"port": 9000}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "script", "mountPath": "/script"},
            {"name": "objects", "mountPath": "/objects"},
            {"name": "written", "mountPath": "/written"},
        ],
    }
    objects = [{"key": keys[name], "path": name} for name in files]
    pod = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [
            {"name": "script", "configMap": {"name": "store", "items": [{"key": "script", "path": "object_store.py"}]}},
            {"name": "objects", "configMap": {"name": "store", "items": objects}},
            {"name": "written", "emptyDir": {}},
        ],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": STORE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {"script": Path(__file__).with_name("object_store.py").read_text()},
            "binaryData": {keys[name]: base64.b64encode(data).decode() for name, data in files.items()},
        },
        *behind_a_service(STORE, "store", 9000, pod),
    ]
