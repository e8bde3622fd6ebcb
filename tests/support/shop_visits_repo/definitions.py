"""What the tiny bundle reads online: a shop's visits and its colour."""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import Int64, String
from feast.value_type import ValueType

from sluice.features.tables import table_path

shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
shops = FeatureView(
    name="shops",
    entities=[shop],
    ttl=timedelta(hours=1),
    schema=[Field(name="shop", dtype=String), Field(name="visits", dtype=Int64), Field(name="colour", dtype=String)],
    source=FileSource(name="shops_source", path=table_path(__file__, "shops"), timestamp_field="event_timestamp"),
)
shop_visits = FeatureService(name="shop_visits", features=[shops])
