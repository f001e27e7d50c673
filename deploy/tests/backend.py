"""A real HTTP server that stands where the gateway would, and lets a test see and steer each exchange."""

import contextlib
import json
import queue
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAIT_SECONDS = 5


class Handler(BaseHTTPRequestHandler):
    """Answers GET with what arrived; /events, /upload and the others below do one thing each."""

    protocol_version = "HTTP/1.1"
    server: "Backend"

    def do_GET(self) -> None:
        special: dict[str, Callable[[], None]] = {
            "/events": self.send_events,
            "/steered": self.send_steering_headers,
            "/silent": self.stay_silent,
            "/api/v1/meta/health": self.send_health,
        }
        special.get(self.path, self.echo)()

    def do_POST(self) -> None:
        if self.path == "/refused":
            self.refuse_early()
        else:
            self.receive_upload()

    def echo(self) -> None:
        """Answer with the request target and every header, as they arrived."""
        headers = [(name.lower(), value) for name, value in self.headers.items()]
        self.answer(200, json.dumps({"target": self.requestline.split(" ")[1], "headers": headers}).encode())

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def send_events(self) -> None:
        """Send an event, wait until the test has it, send the next; note when the client goes away."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for event in iter(lambda: self.server.to_send.get(timeout=WAIT_SECONDS), b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.write(b"0\r\n\r\n")
        except (OSError, queue.Empty):
            self.server.client_left.set()

    def send_steering_headers(self) -> None:
        """Answer with headers that would make a trusting nginx go elsewhere or buffer."""
        self.answer(302, b"{}", X_Accel_Redirect="/elsewhere", X_Accel_Buffering="yes", Location="http://gateway/next")

    def send_health(self) -> None:
        """Answer with the status and body that the test has set, and note the Host that was asked for."""
        self.server.health_host = self.headers["Host"]
        self.answer(*self.server.health)

    def stay_silent(self) -> None:
        self.server.released.wait(WAIT_SECONDS)
        self.close_connection = True

    def receive_upload(self) -> None:
        """Take a chunked body piece by piece and show each to the test as it comes."""
        while size := int(self.rfile.readline(), 16):
            self.server.received.put(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        self.answer(201, b"{}")

    def refuse_early(self) -> None:
        """Answer an upload before its body, then read on for a moment (RFC 9112, section 9.6), as the gateway does."""
        self.close_connection = True
        self.answer(401, b'{"error":{}}', Connection="close")
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1)
            while self.connection.recv(65536):
                pass

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


class Backend(ThreadingHTTPServer):
    """The server, on a free port of 127.0.0.1, with the queues through which a test talks to its handlers."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.port = self.server_port
        self.to_send: queue.Queue[bytes] = queue.Queue()
        self.received: queue.Queue[bytes] = queue.Queue()
        self.health: tuple[int, bytes] = (200, b"{}")
        self.health_host = ""
        self.client_left = threading.Event()
        self.released = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def handle_error(self, *_: Any) -> None:
        """A client that goes away in the middle is part of the tests."""

    def __enter__(self) -> "Backend":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.shutdown()
        self.thread.join(WAIT_SECONDS)
        self.server_close()
