"""Features of the tiny task: a shop's history, and one value derived from it and the request."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

from sluice.features.tables import table_path

shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
shop_history = FeatureView(
    name="shop_history",
    entities=[shop],
    ttl=timedelta(days=3),
    schema=[
        Field(name="shop", dtype=String),
        Field(name="shop_orders", dtype=Int64),
        Field(name="shop_mean_amount", dtype=Float64),
        Field(name="shop_return_rate", dtype=Float64),
    ],
    source=FileSource(
        name="shop_history_source",
        path=table_path(__file__, "shop_history"),
        timestamp_field="event_timestamp",
    ),
)
order = RequestSource(name="order", schema=[Field(name="amount", dtype=Float64)])


def basket_transform(inputs: dict[str, Any]) -> dict[str, Any]:
    """The amount against the shop's usual one."""
    pairs = zip(inputs["amount"], inputs["shop_mean_amount"], strict=True)
    return {"amount_ratio": [amount / mean if mean else None for amount, mean in pairs]}


basket = on_demand_feature_view(
    name="basket",
    sources=[order, shop_history],
    schema=[Field(name="amount_ratio", dtype=Float64)],
    mode="python",
)(basket_transform)

tiny = FeatureService(name="tiny", features=[shop_history, basket])
