"""
What Feast knows about the flights task: entities, sources, views, on-demand views and one feature service.

The values of the stored views are built by ``sluice.tasks.flights_tables``; the maths of the on-demand views is
``sluice.tasks.flights_on_demand``. Feast keeps on-demand functions in its registry as dill; the registry is a local
file that the same run writes and reads, and nothing is ever loaded from somebody else's. Feast runs the stored text of
such a function without this module around it, so each imports what it needs itself.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

from sluice.features.tables import table_path

origin = Entity(name="origin", join_keys=["origin"], value_type=ValueType.STRING, description="Airport of departure")
carrier = Entity(name="carrier", join_keys=["carrier"], value_type=ValueType.STRING, description="Airline")
route = Entity(name="route", join_keys=["route"], value_type=ValueType.STRING, description="Origin and destination")
tailnum = Entity(name="tailnum", join_keys=["tailnum"], value_type=ValueType.STRING, description="Plane")


def stored_view(name: str, entity: Entity, ttl: timedelta, features: tuple[str, ...]) -> FeatureView:
    """A view over the table of its name whose features are all 64-bit floats."""
    source = FileSource(
        name=f"{name}_source",
        path=table_path(__file__, name),
        timestamp_field="event_timestamp",
    )
    schema = [Field(name=entity.join_key, dtype=String), *(Field(name=feature, dtype=Float64) for feature in features)]
    return FeatureView(name=name, entities=[entity], ttl=ttl, schema=schema, source=source, online=True)


weather = stored_view(
    "weather",
    origin,
    timedelta(hours=6),
    (
        "temperature",
        "dew_point",
        "humidity",
        "wind_speed",
        "wind_gust",
        "precipitation",
        "pressure",
        "visibility",
    ),
)
airport_activity = stored_view(
    "airport_activity",
    origin,
    timedelta(hours=2),
    ("airport_delay_mean", "airport_late_share", "airport_departures", "airport_overdue_share"),
)
carrier_history = stored_view(
    "carrier_history", carrier, timedelta(days=3), ("carrier_late_rate_7d", "carrier_late_rate_28d")
)
route_history = stored_view("route_history", route, timedelta(days=8), ("route_late_rate_28d", "route_flights_28d"))
plane_history = stored_view("plane_history", tailnum, timedelta(days=28), ("plane_late_rate_28d", "plane_flights_28d"))
plane = stored_view("plane", tailnum, timedelta(0), ("plane_seats", "plane_age"))  # zero: never expires
previous_leg = stored_view(
    "previous_leg",
    tailnum,
    timedelta(hours=24),
    ("previous_arr_delay", "previous_dep_delay", "previous_landed_at", "previous_elapsed"),
)

timetable = RequestSource(
    name="timetable",
    schema=[
        Field(name="scheduled_departure", dtype=Int64),
        Field(name="scheduled_elapsed", dtype=Float64),
        Field(name="distance", dtype=Float64),
    ],
)


def schedule_transform(inputs: dict[str, Any]) -> dict[str, Any]:
    """Parts of the local time of departure."""
    from sluice.tasks.flights_on_demand import schedule_columns

    return schedule_columns(inputs["scheduled_departure"])


def turnaround_transform(inputs: dict[str, Any]) -> dict[str, Any]:
    """How much time the plane has had since its previous leg."""
    from sluice.tasks.flights_on_demand import turnaround_columns

    return turnaround_columns(inputs["scheduled_departure"], inputs["previous_landed_at"], inputs["previous_elapsed"])


schedule = on_demand_feature_view(
    name="schedule",
    sources=[timetable],
    schema=[
        Field(name="local_hour", dtype=Int64),
        Field(name="weekday", dtype=String),
        Field(name="day_sin", dtype=Float64),
        Field(name="day_cos", dtype=Float64),
    ],
    mode="python",
)(schedule_transform)

turnaround = on_demand_feature_view(
    name="turnaround",
    sources=[timetable, previous_leg],
    schema=[Field(name="minutes_since_landing", dtype=Float64), Field(name="return_slack", dtype=Float64)],
    mode="python",
)(turnaround_transform)

flight_delays = FeatureService(
    name="flight_delays",
    features=[
        schedule,
        carrier_history,
        route_history,
        plane_history,
        plane,
        weather,
        airport_activity,
        previous_leg[["previous_arr_delay", "previous_dep_delay"]],
        turnaround,
    ],
    description="Everything that may be known of a flight at its scheduled departure",
)
