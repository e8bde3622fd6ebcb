"""A bundle of three features and seven weights, for tests of what serves it."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from sluice.data.divergence import profile_of
from sluice.features.manifest import Feature, FeatureManifest
from sluice.models.bundle import BundleManifest, Provenance, write_bundle
from sluice.models.encoder import CategoryCode, Encoder, NumericCode
from sluice.models.runtime import FORMATS, FormatName
from sluice.tasks.recipe import Recipe

ZERO = "sha256:" + "0" * 64
_MODEL = (
    "eNptVL9vElEc/wIHpUjwEi4NMQwMDMaB2OKgNikltSYkQBMkTQcTJHAYknIk9TDVv8Chg4NLjTEOjVMHhg4dDHRxqw66OjqYTg6O"
    "tefnvfe947j4yCfv+z7v+/t9jywRNR9WiwblKEsZMkinJLg4aZAJnIINvA4RfQAONKIIqRUG7gCg6IfjOIssp4GNrfr2ZuNRZave"
    "qm02yw/KzTL8JqXvuIwx0x30rdbeyLL7A7P13Nx71h9alACfQTwduIR8AhwDR8A74A3nJXykrhxH7E8AnXOLU8qLJbi8ZGOSi7Gd"
    "WEmvbk3Wvn3xPTmOdz5HuD5NWhGtFFaWC7eJXnIs4XO5cE9Q3jq+dJwxcAKcAh9Z9y7w5bxaIjqbQiy9PTxc6/V6pWKxOAW/BoA/"
    "wz1NcTfB3RR3JfCTC/ahSR/nE/2v4xjAdZxr1UojtzG00DPb7BYIrZLvho54VYl6U8yLt8xBKQ/cDCmfg3bfIvcNgQNg5z9+rvn8"
    "iPbqLIs+HSGfEPdJnKPcu5BUTXh5JGS/Ve/c+yjvGse7EYiXVfESMnfP5+wdQz77ML9DhH0ZMtbMF8/GLTeHx1cq74jnV+0x33kB"
    "6OKQBX5CHgP7wDrH/AofQl1nn0I/A5yCF7NX6ZoYbPsF+WqWMZx5uxj38ze/d8PcHfltRP73AzZRtsmDF/adodVp2/M2VsDGnd0d"
    "8KLuuvnU0xe5vw/oRzjGK45Ra9u10e58jG8BmzDvnzhGu9v16iZakjNFPBVul5e4/QbHc2dZkz913vf1Y4FrWedv2wj8D2Et/oKc"
    "VnL6D2Sej3BSzoSaejELq4pf/QdCU70l"
)
TINY_MODEL = zlib.decompress(base64.b64decode(_MODEL))
"""LiteRT: relu([x, -x]) times fixed weights, float32 (1, 7) to (1, 1)."""
_ONNX = (
    "eNpVzr9qwlAUx/H701t7+fmHeKdOHTJmcMlSHAzEoSClQ8duSUisYK4lrRgfxU59ksQHiNBH8pROHc5wPl84HGOsmv+AQ6K2cH7/OV/z"
    "XhbCWWT+YLlzWfIZDKmTevNxh2/0OCIyi8rXL/l2T0tUxIFILY6+fszL0t6sq+T9LViaiYGHGIfVw6V7ipQ6t0qp6Ot0WhRFEYVh2Iov"
    "ZMTP0lUrrZHWSovEm2D8dyJd6UvXNa/T309HpIEdULFnblOh4z9CrKm8aTwhk81s51w9K7de/wrsNDft"
)
ONNX_MODEL = zlib.decompress(base64.b64decode(_ONNX))
"""The same network as ONNX."""
MODELS: Mapping[FormatName, bytes] = {"litert": TINY_MODEL, "onnx": ONNX_MODEL}
FAILING_MODEL = TINY_MODEL.replace(struct.pack("<f", -0.4), struct.pack("<f", math.nan))
"""With a bias that is no number, so no answer is one."""

FEATURES = FeatureManifest(
    service="shop_visits",
    service_digest=ZERO,
    entity_keys=("shop",),
    request_inputs=(Feature(name="amount", dtype="float", view="request"),),
    features=(
        Feature(name="amount", dtype="float", view="request"),
        Feature(name="visits", dtype="int", view="shops", ttl_seconds=3600),
        Feature(name="colour", dtype="string", view="shops"),
    ),
)
_ENCODER = Encoder(
    columns=(
        NumericCode(name="amount", log=False, fill=0.0, mean=0.5, deviation=2.0, knots=(), flag=True),
        NumericCode(name="visits", log=True, fill=3.0, mean=1.0, deviation=1.5, knots=(), flag=True),
        CategoryCode(name="colour", categories=("blue", "red"), other=True),
    )
)


def tiny_rows(n: int) -> list[dict[str, Any]]:
    """n instances with all features, some missing."""
    colours = ("red", "blue", "green", None)
    return [
        {"amount": 0.37 * i - 2 if i % 7 else None, "visits": i * 3 if i % 5 else None, "colour": colours[i % 4]}
        for i in range(n)
    ]


def write_tiny_bundle(
    store: Path,
    threshold: float = 0.5,
    service_digest: str | None = ZERO,
    beside: Mapping[str, bytes] = {},
    *,
    kind: FormatName = "litert",
    model: bytes = b"",
) -> str:
    """
    Write the bundle, with more files ``beside`` the model, and return its digest; another threshold, feature service,
    file or ``model`` is another digest.
    """
    manifest = BundleManifest(
        format=kind,
        task="tiny",
        variant="student_f32",
        recipe=Recipe(name="tiny-recipe", description="for tests", features=FEATURES.names),
        features=FEATURES.model_copy(update={"service_digest": service_digest}),
        encoder=_ENCODER,
        threshold=threshold,
        provenance=Provenance(data=ZERO, frame=ZERO, recipe=ZERO, code=ZERO, window=("2020-01-01", "2020-02-01")),
        profiles={"amount": profile_of(pl.Series("amount", [float(i) for i in range(100)]))},
    )
    return write_bundle(store, manifest, {FORMATS[kind].file: model or MODELS[kind], **beside})
