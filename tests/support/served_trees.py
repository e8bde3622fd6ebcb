"""Trees behind the real server, row by row against the library that trained them."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import lightgbm
import numpy as np
import polars as pl
import xgboost

from sluice.arrays import Floats, Floats32
from sluice.child_process import ChildServer
from sluice.models.bundle import Bundle
from sluice.models.codes import CategoryCode
from tests.support.patience import url_of

_ROWS = 500
"""Of one request."""
_DATATYPES = {"float": "FP64", "int": "INT64", "string": "BYTES"}


@dataclass(frozen=True)
class ServedComparison:
    """
    A server's answers beside its library's.

    Attributes:
        protocol: ``v1`` or ``v2``.
        rows: how many were asked, every one of them compared.
        incomplete: of them, those with a missing value.
        apart: the largest difference of two probabilities.
        seconds: until all were answered.
    """

    protocol: str
    rows: int
    incomplete: int
    apart: float
    seconds: float


def compare_served(bundle: Bundle, rows: pl.DataFrame, expected: Floats, scratch: Path) -> list[ServedComparison]:
    """
    Ask a server of ``bundle`` about every row, by V1 and by V2.

    Args:
        rows: the bundle's features, by their names.
        expected: (n,) the library's predictions of them.
        scratch: gets the server's output.
    """
    asked = rows.select(bundle.manifest.features.names)
    incomplete = asked.select(pl.any_horizontal(pl.all().is_null())).to_series().sum()
    found = []
    with _server(bundle, scratch) as connection:
        for protocol in ("v1", "v2"):
            started = time.monotonic()
            scores = np.concatenate([_asked(connection, bundle, part, protocol) for part in asked.iter_slices(_ROWS)])
            seconds = time.monotonic() - started
            assert scores.shape == expected.shape == (rows.height,)
            apart = np.abs(scores - expected).max()
            assert np.isfinite(apart)
            found.append(ServedComparison(protocol, rows.height, int(incomplete), float(apart), seconds))
    return found


@contextmanager
def _server(bundle: Bundle, scratch: Path) -> Iterator[http.client.HTTPConnection]:
    command = [sys.executable, "-m", "sluice_serving.predictor", "--bundle", str(bundle.directory)]
    command += ["--digest", bundle.digest, "--model_name", "trees", "--http_port", "0"]
    child = ChildServer(command, scratch / "server.log")
    try:
        yield http.client.HTTPConnection(urlsplit(url_of(child)).netloc, timeout=300)
    finally:
        child.stop()


def _asked(connection: http.client.HTTPConnection, bundle: Bundle, rows: pl.DataFrame, protocol: str) -> Floats:
    """(n,) what the server says of some rows."""
    if protocol == "v1":
        answer = _posted(connection, "/v1/models/trees:predict", {"instances": rows.to_dicts()})
        return np.array([each["score"] for each in answer["predictions"]], np.float64)
    tensors = [
        {
            "name": feature.name,
            "datatype": _DATATYPES[feature.dtype],
            "shape": [rows.height],
            "data": rows[feature.name].to_list(),
        }
        for feature in bundle.manifest.features.features
    ]
    answer = _posted(connection, "/v2/models/trees/infer", {"inputs": tensors, "outputs": [{"name": "score"}]})
    return np.array(answer["outputs"][0]["data"], np.float64)


def _posted(connection: http.client.HTTPConnection, path: str, document: dict[str, Any]) -> Any:
    connection.request("POST", path, json.dumps(document), {"content-type": "application/json"})
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, body[:300]
    return json.loads(body)


def said_by_library(bundle: Bundle, rows: pl.DataFrame) -> tuple[str, Floats]:
    """
    The name of the library whose document is in a bundle of one output, and its (n,) predictions.

    Of the bundle it takes the order of columns and values alone; the table is made here.
    """
    document = next(bundle.files[name] for name in ("booster.json", "trees.json") if name in bundle.files)
    table = _table(bundle, rows)
    parsed = json.loads(document)
    if "lightgbm" in parsed:
        booster = lightgbm.Booster(model_str=parsed["lightgbm"])
        return "LightGBM", np.asarray(booster.predict(table, num_threads=1), np.float64)
    trees = xgboost.Booster(model_file=bytearray(document))
    trees.set_param({"nthread": 1})
    return "XGBoost", np.asarray(trees.predict(xgboost.DMatrix(table, nthread=1)), np.float64)


def _table(bundle: Bundle, rows: pl.DataFrame) -> Floats32:
    """(n, k) numbers as they are, NaN where one is missing, and after them a column for each value of a text."""
    numbers: list[pl.Expr] = []
    texts: list[pl.Expr] = []
    for code in bundle.manifest.encoder.columns:
        column = pl.col(code.name)
        if isinstance(code, CategoryCode):
            known: Sequence[pl.Expr] = [(column == value).fill_null(value=False) for value in code.categories]
            rest = [~column.is_in(code.categories).fill_null(value=False)] if code.other else []
            texts += [each.cast(pl.Float32) for each in (*known, *rest)]
        else:
            numbers.append(column.cast(pl.Float32).fill_null(float("nan")))
    every = enumerate([*numbers, *texts])
    table: Floats32 = rows.select(each.alias(str(place)) for place, each in every).to_numpy()
    return table
