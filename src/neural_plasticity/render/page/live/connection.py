"""A connection of the live server: how long it may take to ask, and how many there may be."""

from __future__ import annotations

import asyncio
import select

from uvicorn.protocols.http.h11_impl import H11Protocol

ASK_SECONDS = 10.0  # from the connection, or from the first byte of a request, to the end of its headers
MOST_CONNECTIONS = 800  # a process may have about 1,000 files open


class PatientProtocol(H11Protocol):
    """uvicorn's connection, which waits for a request without end and takes any number of others meanwhile."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn does; where too many are there, one that has asked for nothing yet has to go, or else this one."""
        super().connection_made(transport)
        self._expect()
        if len(self.connections) > MOST_CONNECTIONS:
            next(iter(self._silent()), self)._give_up()

    def _silent(self) -> list[PatientProtocol]:
        """Others that have asked for nothing: where a crowd comes at once, who was not read yet may well have asked."""
        others = (one for one in self.connections if isinstance(one, PatientProtocol) and one is not self)
        waiting = {one.transport.get_extra_info("socket").fileno(): one for one in others if one._deadline is not None}
        waiting.pop(-1, None)  # closed already
        if not hasattr(select, "poll"):  # Windows
            return list(waiting.values())
        look = select.poll()
        for number in waiting:
            look.register(number, select.POLLIN)
        for number, _ in look.poll(0):
            del waiting[number]
        return list(waiting.values())

    def data_received(self, data: bytes) -> None:
        """As uvicorn does; from the first byte of a request on there is a limit until it is whole."""
        super().data_received(data)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn does."""
        super().connection_lost(exc)
        self._rest()

    def _expect(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._rest()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(ASK_SECONDS, self._give_up)

    def _rest(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._rest()
        self.transport.abort()
