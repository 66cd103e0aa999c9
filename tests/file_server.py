"""A real HTTP server on the loopback interface that can misbehave."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves ``files``; a context manager.

    Attributes:
        files: contents by path, such as ``/a.txt``.
        ranges: whether Range requests are understood.
        cuts: for each coming request, after how many bytes the connection is cut.
        statuses: for each coming request, an error status to answer with.
        requests: path and Range header of each request so far.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.ranges = True
        self.cuts: list[int] = []
        self.statuses: list[int] = []
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        """Address of the server without a path."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that hang up."""

    def __enter__(self) -> "FileServer":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.requests.append((self.path, wanted))
        content = self.server.files.get(self.path)
        if self.server.statuses or content is None:
            self._answer(self.server.statuses.pop(0) if self.server.statuses else 404, b"")
        elif wanted and self.server.ranges:
            first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if first < len(content):
                where = f"bytes {first}-{len(content) - 1}/{len(content)}"
                self._answer(206, content[first:], where)
            else:
                self._answer(416, b"", f"bytes */{len(content)}")
        else:
            self._answer(200, content)

    def _answer(self, status: int, body: bytes, content_range: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.server.cuts:
            body = body[: self.server.cuts.pop(0)]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
