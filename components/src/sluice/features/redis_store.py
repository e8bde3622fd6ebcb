"""
Feast's Redis store with bounds: short waits, counted retries, one clear error, and nothing made up.

What differs from the store that it extends, whose keys and values it shares:

* a read that fails ends after ``retries`` more tries of ``timeout_seconds`` each, and the next ones fail at once for
  ``rest_seconds``: a server with one thread still answers its probes while Redis is away;
* a key that is not there is missing; Feast gives it an empty row of the year 1970;
* where ``honours_ttl`` is on, a value older than its view's time to live is missing too. Feast's own server needs it;
  ``sluice.features.reader`` applies the time to live at the time of the request instead;
* it keeps the marks of ``sluice.features.materialize`` beside the rows that they speak of.

Named in ``feature_store.cluster.yaml`` as ``sluice.features.redis_store.BoundedRedisOnlineStore``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.infra.supported_async_methods import SupportedAsyncMethods
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from sluice.errors import BadInput, Unavailable

_PAUSE_SECONDS = 0.05
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class BoundedRedisOnlineStoreConfig(RedisOnlineStoreConfig):  # type: ignore[misc]
    """Feast's configuration of Redis, and its bounds."""

    type: Literal["sluice.features.redis_store.BoundedRedisOnlineStore"] = (
        "sluice.features.redis_store.BoundedRedisOnlineStore"
    )
    redis_type: Literal["redis"] = "redis"
    """One address: a server, or what stands before several."""
    password: str = ""
    timeout_seconds: float = 0.25
    """Of connecting, and of one answer."""
    retries: int = 1
    rest_seconds: float = 1.0
    honours_ttl: bool = False


class BoundedRedisOnlineStore(RedisOnlineStore):  # type: ignore[misc]
    """See the module."""

    _client: Any = None
    _down_until = 0.0
    _honours_ttl = False

    def __init__(self) -> None:
        super().__init__()
        self._lifetimes: dict[str, Any] = {}  # grows only: Feast's server reads in several threads

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Nothing: Feast then reads in a thread, by the one client that has bounds."""
        return SupportedAsyncMethods(read=False, write=False)

    def online_read(self, config: Any, table: Any, entity_keys: Any, requested_features: Any = None) -> Any:
        """Feast's, with the view's time to live at hand."""
        self._lifetimes[table.name] = table.ttl
        return super().online_read(config, table, entity_keys, requested_features)

    def online_write_batch(self, config: Any, table: Any, data: Any, progress: Callable[[int], Any] | None) -> None:
        """Feast's; raises ``Unavailable`` when Redis does not answer."""
        with _one_error(config):
            super().online_write_batch(config, table, data, progress)

    def read_marks(self, config: Any) -> dict[str, str]:
        """
        What was written last into each view: text by view.

        Raises:
            Unavailable: Redis does not answer, or refuses.
        """
        with self._unless_down(config), _one_error(config):
            marks = self._get_client(config.online_store).hgetall(_marks(config))
        return {name.decode(): text.decode() for name, text in marks.items()}

    def write_mark(self, config: Any, view: str, text: str) -> None:
        """Say what was written into a view; raises ``Unavailable`` when Redis does not answer, or refuses."""
        with _one_error(config):
            self._get_client(config.online_store).hset(_marks(config), view, text)

    def _read_features_per_fv(self, config: Any, grouped_refs: Any, *rest: Any) -> None:
        self._lifetimes.update({table.name: table.ttl for table, _ in grouped_refs})
        self._honours_ttl = config.online_store.honours_ttl
        super()._read_features_per_fv(config, grouped_refs, *rest)

    def _read_hash_fields(self, config: Any, commands: Any) -> Any:
        self._honours_ttl = config.online_store.honours_ttl
        with self._unless_down(config), _one_error(config):
            return super()._read_hash_fields(config, commands)

    def _get_features_for_entity(self, values: Any, feature_view: str, requested_features: Any) -> Any:
        stamp, cells = super()._get_features_for_entity(values, feature_view, requested_features)
        if stamp is None or stamp == _NEVER:
            return None, None
        lifetime = self._lifetimes.get(feature_view) if self._honours_ttl else None
        return (None, None) if lifetime and datetime.now(UTC) - stamp > lifetime else (stamp, cells)

    def _get_client(self, online_store_config: Any) -> Any:
        if not self._client:
            nodes, options = self._parse_connection_string(online_store_config.connection_string)
            if len(nodes) != 1 or set(nodes[0]) != {"host", "port"} or not nodes[0]["port"].isdigit():
                rule = "is not host:port"
                raise BadInput(f"Redis {_address(online_store_config)}", rule, "set SLUICE_REDIS, e.g. redis:6379")
            seconds = online_store_config.timeout_seconds
            self._client = Redis(
                host=nodes[0]["host"],
                port=int(nodes[0]["port"]),
                password=online_store_config.password or None,
                socket_timeout=seconds,
                socket_connect_timeout=seconds,
                retry=Retry(ConstantBackoff(_PAUSE_SECONDS), online_store_config.retries),
                **options,
            )
        return self._client

    @contextmanager
    def _unless_down(self, config: Any) -> Iterator[None]:
        """Fail at once for a while after a failure, so that nobody waits in line for the same answer."""
        if time.monotonic() < self._down_until:
            raise _unavailable(config, "it did not a moment ago")
        try:
            yield
        except Unavailable:
            self._down_until = time.monotonic() + config.online_store.rest_seconds
            raise


@contextmanager
def _one_error(config: Any) -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise _unavailable(config, str(error)) from error


def _unavailable(config: Any, why: str) -> Unavailable:
    fix = "start it, or check SLUICE_REDIS and SLUICE_REDIS_PASSWORD"
    return Unavailable(f"Redis {_address(config.online_store)}", f"does not answer ({why[:200]})", fix)


def _address(online_store: Any) -> str:
    return str(online_store.connection_string).partition(",")[0]


def _marks(config: Any) -> str:
    return f"sluice:materialized:{config.project}"
