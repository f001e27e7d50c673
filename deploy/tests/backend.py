"""A real HTTP server in the place of the gateway, with which tests observe and control each exchange."""

import json
import queue
import socket
import threading
from http import HTTPStatus

from testing.http.cluster import Behaviour, RawCluster, Visit
from testing.http.messages import Ended

WAIT_SECONDS = 5


def answer(visit: Visit, status: int, body: bytes, *fields: str) -> None:
    """Send an answer of JSON."""
    start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
    lines = [start, "Content-Type: application/json", f"Content-Length: {len(body)}", *fields, "", ""]
    visit.send("\r\n".join(lines).encode() + body)


def echo(visit: Visit) -> None:
    """Answer with the request target and all header lines as received."""
    fields = [(name.lower(), value) for name, value in visit.request.fields]
    answer(visit, 200, json.dumps({"target": visit.request.target, "headers": fields}).encode())


def steer(visit: Visit) -> None:
    """Answer with headers that could redirect nginx internally or make it buffer."""
    steering = ("X-Accel-Redirect: /elsewhere", "X-Accel-Buffering: yes", "Location: http://gateway/next")
    answer(visit, 302, b"{}", *steering)


def stay_silent(visit: Visit) -> None:
    """Wait for the next request."""


def refuse_early(visit: Visit) -> None:
    """Answer an upload before its body, then read on briefly (RFC 9112, section 9.6), as the gateway does."""
    answer(visit, 401, b'{"error":{}}', "Connection: close")
    visit.sock.shutdown(socket.SHUT_WR)
    visit.sock.settimeout(1)
    while visit.more():
        visit.buffer.clear()
    raise Ended


class Backend(RawCluster):
    """The server, with the queues through which a test talks to it."""

    def __init__(self) -> None:
        super().__init__()
        self.on_head = self.exchange
        self.to_send: queue.Queue[bytes] = queue.Queue()
        self.received: queue.Queue[bytes] = queue.Queue()
        self.health: tuple[int, bytes] = (200, b"{}")
        self.client_left = threading.Event()

    def exchange(self, visit: Visit) -> None:
        """Do what the path stands for; any other path echoes a GET and accepts the upload of a POST."""
        special: dict[str, Behaviour] = {
            "/events": self.send_events,
            "/steered": steer,
            "/silent": stay_silent,
            "/api/v1/meta/health": lambda visit: answer(visit, *self.health),
            "/api/v1/meta/health/live": lambda visit: answer(visit, 200, b'{"status": "alive"}'),
            "/refused": refuse_early,
        }
        otherwise = self.receive_upload if visit.request.method == "POST" else echo
        special.get(visit.request.target, otherwise)(visit)

    def send_events(self, visit: Visit) -> None:
        """Send an event, wait until the test has received it, and send the next; note when the client disconnects."""
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for event in iter(lambda: self.to_send.get(timeout=WAIT_SECONDS), b""):
                visit.send(b"%x\r\n%s\r\n" % (len(event), event))
        except (OSError, queue.Empty):
            self.client_left.set()
            raise Ended from None
        visit.send(b"0\r\n\r\n")

    def receive_upload(self, visit: Visit) -> None:
        """Read a chunked body piece by piece and pass each piece to the test as it arrives."""
        for piece in visit.chunks(visit.request):
            self.received.put(piece)
        answer(visit, 201, b"{}")
