"""Ends connections that send more than a request may have before its body: uvicorn's parser would keep all of it."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 2**10


class HeadLimit(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with 64 KiB at most for address and headers, and for what is around chunks of a body and
    behind them."""

    _unread = 0

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"Address and headers have more than {MOST_HEAD_BYTES:,} bytes.")

    def on_headers_complete(self) -> None:
        self._unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        super().on_message_complete()
