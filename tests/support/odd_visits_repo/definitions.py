"""A shop's visits, by a transform that does for each amount of the request another thing that no transform should."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

from sluice.features.tables import table_path

shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
shops = FeatureView(
    name="shops",
    entities=[shop],
    ttl=timedelta(hours=1),
    schema=[Field(name="shop", dtype=String), Field(name="doors", dtype=Int64), Field(name="colour", dtype=String)],
    source=FileSource(name="shops_source", path=table_path(__file__, "shops"), timestamp_field="event_timestamp"),
)
order = RequestSource(name="order", schema=[Field(name="amount", dtype=Float64)])


def odd_transform(inputs: dict[str, Any]) -> dict[str, Any]:
    """Visits of a shop."""
    from tests.support.odd_visits import visits_of

    return {"visits": [visits_of(*pair) for pair in zip(inputs["amount"], inputs["doors"], strict=True)]}


odd = on_demand_feature_view(
    name="odd", sources=[order, shops], schema=[Field(name="visits", dtype=Int64)], mode="python"
)(odd_transform)
shop_visits = FeatureService(name="shop_visits", features=[shops, odd])
