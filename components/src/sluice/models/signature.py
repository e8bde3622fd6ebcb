"""Signatures of bundles: over the bytes of ``bundle.json``, whose digest is the bundle's, so they cover every file."""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from sluice.errors import BadArtifact, BadInput

_KINDS = "an Ed25519 or ECDSA public key in PEM"


def verify_signature(document: bytes, signature: bytes, key: bytes, name: str) -> None:
    """
    Accept ``document`` only if the owner of ``key`` signed it.

    Args:
        document: the bytes of ``bundle.json``.
        signature: base64, as ``cosign sign-blob`` and ``openssl … | base64`` write it.
        key: public key in PEM: Ed25519, or ECDSA (over SHA-256).
        name: how messages call the bundle.

    Raises:
        BadArtifact: the signature is another's, another document's, or not base64.
        BadInput: the key is none of these.
    """
    try:
        public = load_pem_public_key(key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInput("the signer's key", f"is not {_KINDS}", "put the public key into the Secret") from error
    try:
        raw = base64.b64decode(signature.strip(), validate=True)
        if isinstance(public, Ed25519PublicKey):
            public.verify(raw, document)
        elif isinstance(public, EllipticCurvePublicKey):
            public.verify(raw, document, ECDSA(SHA256()))
        else:
            raise BadInput("the signer's key", f"is not {_KINDS}", "put the public key into the Secret")
    except (InvalidSignature, binascii.Error) as error:
        raise BadArtifact(name, "is not signed by this environment's key", "sign it, or release another") from error
