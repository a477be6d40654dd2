"""HTTP on a connection, with a bound on what is kept of a request before the application sees it."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_LIMIT_BYTES = 128 * 1024
"""Above what the application accepts as headers, so that most requests that are too large get a full answer."""

_ANSWER = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\ncache-control: no-store\r\n\r\n"
)


class BoundedHeadProtocol(HttpToolsProtocol):
    """uvicorn's protocol, but a head that does not end is cut off: httptools would keep all of it.

    So is a connection on which no request comes within the keep-alive time: uvicorn bounds only the time from an answer
    to the next byte, and would keep one that says nothing, or too little, for good.
    """

    _in_head = True
    _head_bytes = 0
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection."""
        super().connection_made(transport)
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a connection."""
        self._be_content()
        super().connection_lost(exc)

    def _wait_for_request(self) -> None:
        """Bound the time until a head is complete; a request that is being answered is not bounded here."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._be_content()
        elif self._patience is None and not self.transport.is_closing():
            self._patience = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def _be_content(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        if self.transport.is_closing():
            return
        had_begun = self._in_head
        super().data_received(data)
        self._wait_for_request()
        if not (had_begun and self._in_head):
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_LIMIT_BYTES and not self.transport.is_closing():
            self.transport.write(_ANSWER)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End counting: what follows is a body, which the application bounds."""
        self._in_head = False
        super().on_headers_complete()
