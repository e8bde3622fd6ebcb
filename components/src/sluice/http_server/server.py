"""
uvicorn's server, which ends without losing a request of a client that is busy.

uvicorn closes every idle connection the moment it is told to end, also where the next request is on its way, and resets
those that wait to be accepted. Here SIGTERM means: nobody new is taken in, the next answer on each connection says that
it is the last, and who has not asked for a second is let go. What is still not done after the grace is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from sluice.http_server.boundary import Boundary, ErrorReport
from sluice.http_server.connection import BoundedConnection, ServerLife

_KEEP_ALIVE_S = 65
"""As kserve has it: longer than most clients keep an idle connection, so that it is they who close it."""
_TICKS = 10
"""uvicorn has ten a second."""
_PAUSE_S = 0.02
_CUT_OFF_S = 1
"""For an application to notice that its clients were cut off."""


class HttpServer(uvicorn.Server):
    """
    A server of one ASGI application.

    Args:
        app: what answers; see ``sluice.http_server.boundary`` for what happens to its errors.
        grace_s: how long the requests that are under way at the end are waited for.
        report: told of each error that ``app`` raises.
        refused: told of each request that was refused before ``app`` could see it: its status and why.
    """

    server_state: ServerLife

    def __init__(
        self, app: Any, grace_s: int, report: ErrorReport, refused: Callable[[int, str], None] = lambda *_: None
    ) -> None:
        config = uvicorn.Config(
            Boundary(app, report),
            http=BoundedConnection,
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=grace_s,
        )
        super().__init__(config)
        self.server_state = ServerLife(refused)

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's, and a look at the clock for every connection once a second."""
        if counter % _TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in self._connections():
                connection.check_time(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as the module says."""
        loop = asyncio.get_running_loop()
        self.server_state.ending = True
        await self._take_in_the_last(sockets or [])
        end = loop.time() + (self.config.timeout_graceful_shutdown or 0)
        while self._connections() and loop.time() < end and not self.force_exit:
            for connection in self._connections():
                connection.wind_down(loop.time())
            await asyncio.sleep(_PAUSE_S)
        for connection in self._connections():
            connection.transport.abort()
        self.config.timeout_graceful_shutdown = _CUT_OFF_S
        await super().shutdown(sockets)

    async def _take_in_the_last(self, listeners: list[socket.socket]) -> None:
        """Whoever the kernel has a connection with already may have sent a request on it."""
        loop = asyncio.get_running_loop()
        for listener in listeners:
            loop.remove_reader(listener.fileno())
        await asyncio.sleep(_PAUSE_S)  # connections that asyncio is setting up
        for listener in listeners:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    await loop.connect_accepted_socket(self._connection, client)
        for server in self.servers:
            server.close()

    def _connection(self) -> BoundedConnection:
        return BoundedConnection(self.config, self.server_state, self.lifespan.state)

    def _connections(self) -> list[BoundedConnection]:
        return [each for each in self.server_state.connections if isinstance(each, BoundedConnection)]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 lets the system choose."""
    # asyncio switches Nagle's delay off only where the protocol number is spelled out; without, answers take 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(512)
    listener.setblocking(False)
    return listener
