"""The encoder: what comes out for numbers, strings, gaps and surprises; the same for one row as for many."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from sluice.errors import BadInput
from sluice.features.manifest import Feature, FeatureManifest
from sluice.models.codes import FeatureCode
from sluice.models.encoder import CategoryCode, Encoder, NumericCode, fit_encoder

ROWS = 5000


def manifest(**dtypes: str) -> FeatureManifest:
    features = tuple(Feature.model_validate({"name": name, "dtype": dtypes[name], "view": "v"}) for name in dtypes)
    return FeatureManifest(service="s", service_digest="d", entity_keys=(), request_inputs=(), features=features)


@pytest.fixture(scope="module")
def train() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    gaps = rng.random(ROWS) < 0.1
    return pl.DataFrame(
        {
            "bell": rng.normal(10, 3, ROWS),
            "tail": np.exp(rng.normal(2, 2, ROWS)) * rng.choice([-1, 1], ROWS),
            "holes": pl.Series(
                [None if gap else float(index % 100) for index, gap in enumerate(gaps)], dtype=pl.Float64
            ),
            "hour": pl.Series(rng.integers(5, 24, ROWS), dtype=pl.Int64),
            "shop": pl.Series(rng.choice(["a", "b", "c"], ROWS), dtype=pl.String),
            "city": pl.Series(["rare" if index == 7 else "pq"[index % 2] for index in range(ROWS)], dtype=pl.String),
        }
    )


@pytest.fixture(scope="module")
def encoder(train: pl.DataFrame) -> Encoder:
    dtypes = {"bell": "float", "tail": "float", "holes": "float", "hour": "int", "shop": "string", "city": "string"}
    return fit_encoder(train, manifest(**dtypes))


def code(encoder: Encoder, name: str) -> FeatureCode:
    return next(column for column in encoder.columns if column.name == name)


def row(**changes: object) -> dict[str, list[object]]:
    values = {"bell": 10.0, "tail": 1.0, "holes": 50.0, "hour": 12, "shop": "a", "city": "p"} | changes
    return {name: [value] for name, value in values.items()}


def test_it_learns_tails_gaps_and_rare_values(encoder: Encoder) -> None:
    tail, bell, holes, shop, city = (code(encoder, name) for name in ("tail", "bell", "holes", "shop", "city"))
    assert isinstance(tail, NumericCode)
    assert isinstance(bell, NumericCode)
    assert isinstance(holes, NumericCode)
    assert (tail.log, bell.log) == (True, False)
    assert (holes.flag, bell.flag) == (True, False)
    assert shop == CategoryCode(name="shop", categories=("a", "b", "c"), other=False)
    assert city == CategoryCode(name="city", categories=("p", "q"), other=True)


def test_a_whole_number_with_few_values_gets_a_step_each(encoder: Encoder) -> None:
    hour = code(encoder, "hour")
    assert isinstance(hour, NumericCode)
    assert hour.knots == tuple(float(value) for value in range(5, 24))


def test_one_row_is_encoded_as_it_is_among_many(encoder: Encoder, train: pl.DataFrame) -> None:
    many = encoder.encode(train)
    assert many.dtype == np.float32
    assert many.shape == (ROWS, encoder.width)
    assert np.isfinite(many).all()
    assert np.array_equal(encoder.encode(train.to_dict(as_series=False)), many)
    for index in (0, 7, ROWS - 1):
        one = {name: [value] for name, value in train.row(index, named=True).items()}
        assert np.array_equal(encoder.encode(one)[0], many[index])


def test_standardized_values_have_mean_0_and_deviation_1(encoder: Encoder, train: pl.DataFrame) -> None:
    bell = encoder.encode(train)[:, 0]
    assert abs(float(bell.mean())) < 0.01
    assert abs(float(bell.std()) - 1) < 0.01


def test_missing_takes_the_median_and_raises_the_flag(encoder: Encoder) -> None:
    present, absent = encoder.encode(row()), encoder.encode(row(holes=None))
    assert np.array_equal(encoder.encode(row(holes=float("nan"))), absent)
    flag = sum(column.width - int(column.flag) for column in encoder.columns if isinstance(column, NumericCode))
    assert (present[0, flag], absent[0, flag]) == (0.0, 1.0)
    holes = code(encoder, "holes")
    assert isinstance(holes, NumericCode)
    median = encoder.encode(row(holes=holes.fill))
    assert np.argwhere(absent != median)[0].tolist() == [0, flag]


def test_unseen_strings_go_to_other_or_to_nothing(encoder: Encoder) -> None:
    assert encoder.encode(row(shop="z"))[0, -6:-3].tolist() == [0, 0, 0]
    assert encoder.encode(row(city="z"))[0, -3:].tolist() == [0, 0, 1]
    assert encoder.encode(row(city=None))[0, -3:].tolist() == [0, 0, 1]
    assert encoder.encode(row(city="q"))[0, -3:].tolist() == [0, 1, 0]


def test_a_string_feature_may_be_called_count() -> None:
    train = pl.DataFrame({"count": ["few", "many", "few", "many"]})
    assert fit_encoder(train, manifest(count="string")).columns == (
        CategoryCode(name="count", categories=("few", "many"), other=False),
    )


def test_wild_values_stay_bounded(encoder: Encoder) -> None:
    wild = encoder.encode(row(bell=1e30, tail=float("-inf"), hour=-(10**12)))
    assert np.isfinite(wild).all()
    assert float(np.abs(wild).max()) <= 5


def test_the_document_goes_through_json_unchanged(encoder: Encoder, train: pl.DataFrame) -> None:
    again = Encoder.model_validate_json(encoder.model_dump_json())
    assert again == encoder
    assert np.array_equal(again.encode(train), encoder.encode(train))


def test_plain_leaves_out_the_bins(encoder: Encoder) -> None:
    assert len(encoder.plain) == 4 + 1 + 6
    assert np.array_equal(encoder.plain, [0, 1, 2, 3, *range(encoder.width - 7, encoder.width)])


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"bell": [1.0]}, "tail"),
        ({"bell": ["x"], "tail": [1], "holes": [1], "hour": [1], "shop": ["a"], "city": ["p"]}, "x"),
        ({"bell": [1.0], "tail": [1], "holes": [1], "hour": [1], "shop": ["a", "b"], "city": ["p"]}, "shop"),
        ({"bell": [1.0], "tail": [1], "holes": [1], "hour": [1], "shop": ["a"]}, "city"),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_name(
    encoder: Encoder, columns: dict[str, list[object]], named: str
) -> None:
    with pytest.raises(BadInput, match=named):
        encoder.encode(columns)


def test_a_frame_that_does_not_fit_the_manifest_is_refused(train: pl.DataFrame) -> None:
    with pytest.raises(BadInput, match="'absent'"):
        fit_encoder(train, manifest(absent="float"))
    with pytest.raises(BadInput, match="'shop'"):
        fit_encoder(train, manifest(shop="float"))
    with pytest.raises(BadInput, match="'bell'"):
        fit_encoder(train, manifest(bell="string"))
    with pytest.raises(BadInput, match="train"):
        fit_encoder(train.clear(), manifest(bell="float"))


def test_one_row_takes_microseconds(encoder: Encoder) -> None:
    one, taken = row(), []
    for _ in range(300):
        start = time.perf_counter_ns()
        encoder.encode(one)
        taken.append(time.perf_counter_ns() - start)
    assert min(taken) < 100_000


def _column(values: Sequence[float | None], kind: str = "float") -> tuple[NumericCode, Encoder]:
    """The code of one column, and its encoder as a bundle holds it."""
    dtype = pl.Int64 if kind == "int" else pl.Float64
    fitted = fit_encoder(pl.DataFrame({"x": pl.Series(values, dtype=dtype)}), manifest(x=kind))
    (code,) = fitted.columns
    assert isinstance(code, NumericCode)
    return code, Encoder.model_validate_json(fitted.model_dump_json())


@pytest.mark.parametrize(
    "values",
    [
        [14.62] * 500,
        [14.62, float(np.float32(14.62))] * 50,
        [0.3, 0.1 + 0.2] * 50,
        [1e8 / 3] * 7,
        [0.0] * 9,
        [0.0, 5e-324, 1e-323] * 9,
    ],
)
def test_a_column_that_varies_by_rounding_alone_is_constant(values: list[float]) -> None:
    code, encoder = _column(values)
    assert (code.deviation, code.knots, code.width) == (1.0, (), 1)
    copies = [values[0], float(np.float32(values[0]))]
    assert np.abs(encoder.encode({"x": copies})).max() <= 1e-7 * max(values[0], 1)
    assert encoder.encode({"x": [values[0] + 1]})[0, 0] == pytest.approx(1, rel=1e-6)


def test_whole_numbers_are_told_apart_however_large() -> None:
    code, encoder = _column([22_000_000, 22_000_001, 22_000_002] * 9, "int")
    assert len(code.knots) == 3
    assert len(np.unique(encoder.encode({"x": [22_000_000, 22_000_001, 22_000_002]}), axis=0)) == 3


@pytest.mark.parametrize(
    "values",
    [
        [1.7e308, -1.7e308] * 50,
        [1.7e308, -1.7e308, 0.0, 1.0, 2.0] * 20,
        [0.0, 5e-324, 1.0, 2.0] * 20,
        [1e-200, 2e-200, 3e-200] * 9,
        [float("inf")] * 9,
        [float("inf"), -float("inf"), 1.0, 2.0, None] * 9,
        [None] * 9,
    ],
)
def test_whatever_train_holds_codes_are_finite_and_keep_their_order(values: list[float | None]) -> None:
    _, encoder = _column(values)
    probes = [-math.inf, -1.7e308, -1.0, 0.0, 5e-324, 1e-200, 1.0, 1.7e308, math.inf]
    codes = encoder.encode({"x": [*probes, None]})
    assert np.isfinite(codes).all()
    assert np.abs(codes).max() <= 5
    assert (np.diff(codes[:-1, 0]) >= 0).all()


def test_an_infinite_value_is_not_a_missing_one() -> None:
    assert not _column([1.0, 2.0, math.inf, -math.inf])[0].flag
    assert _column([1.0, 2.0, None])[0].flag
    assert _column([1.0, 2.0, math.nan])[0].flag


def test_knots_of_an_older_bundle_a_subnormal_apart_give_numbers() -> None:
    old = NumericCode(name="x", log=False, fill=0.0, mean=0.0, deviation=5e-324, knots=(0.0, 5e-324, 1.0), flag=False)
    assert np.isfinite(Encoder(columns=(old,)).encode({"x": [0.0, 5e-324, 1.0, None]})).all()
