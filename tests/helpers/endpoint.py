"""A real HTTP server on this machine that misbehaves on command."""

import json
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server does with one request: wait, then answer; `cut`: hang up before the end."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False


def answer(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
    """Send the reply, to a client that may have hung up."""
    data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
    length = len(data) + (100 if reply.cut else 0)
    handler.close_connection |= reply.cut
    with suppress(OSError):
        handler.send_response(reply.status)
        for name, value in (reply.headers | {"Content-Length": str(length)}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)


Behavior = Callable[[int, dict[str, Any]], Reply]


class Server:
    """Calls `behave(number of the request, its body)` for each POST to a route below /v1, and keeps a record."""

    def __init__(self, route: str, behave: Behavior) -> None:
        self.behave = behave
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
        self.open = self.most_open = 0
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == f"/v1{route}"
                reply = server.begin(body, self.headers.get("Authorization"))
                # Readable while it owes a reply means that the client hung up.
                gone = select.select([self.connection], [], [], reply.delay)[0]
                server.end()
                if gone:
                    self.close_connection = True
                    return
                answer(self, reply)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def begin(self, body: dict[str, Any], key: str | None) -> Reply:
        with self.lock:
            self.times.append(time.monotonic())
            self.bodies.append(body)
            self.keys.append(key)
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            return self.behave(len(self.bodies) - 1, body)

    def end(self) -> None:
        with self.lock:
            self.open -= 1

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def wait_until(condition: Callable[[], bool], limit: float = 3) -> bool:
    deadline = time.monotonic() + limit
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()
