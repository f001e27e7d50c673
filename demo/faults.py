"""Routes that behave like a troubled cluster: slow, failing, streaming or hanging up; and one that echoes requests."""

import itertools
import json
from collections.abc import Iterator

import gevent

from demo.routing import Answer, HangUp, Invalid, Problem, Request, Route, json_answer

LONGEST_SLEEP_SECONDS = 30
MOST_EVENTS = 100_000
MOST_BYTES = 16 * 1024**3
PIECE = bytes(range(256)) * 256  # 64 KiB


def _echo(request: Request) -> Answer:
    size = sum(len(piece) for piece in request.pieces())
    path, _, query = str(request.environ["demo.target"]).partition("?")
    return json_answer(
        {
            "method": request.method,
            "path": path,
            "query": query,
            "headers": request.environ["demo.headers"],
            "body_length": size,
        }
    )


def _slow(request: Request) -> Answer:
    seconds = request.number("seconds", default=1, low=0, high=LONGEST_SLEEP_SECONDS)
    gevent.sleep(seconds)
    return json_answer({"slept_seconds": seconds})


def _fail(request: Request) -> Answer:
    raise Problem(500, "LUCID_ERR_5001", "the demo cluster failed, as requested")


def _status(request: Request, code: str) -> Answer:
    if not code.isdecimal() or len(code) != 3 or not 200 <= int(code) <= 599:
        raise Invalid("the status must be from 200 to 599")
    status = int(code)
    if status in (204, 304):
        return Answer(status)
    location = {"Location": "/api/v1/consensus/echo"} if 300 <= status < 400 else {}
    return json_answer({"status": status}, status, **location)


def _events(request: Request) -> Answer:
    if request.method == "HEAD":
        raise Problem(405, "LUCID_ERR_4003", "an event stream has no length")
    count = int(request.number("count", default=5, low=0, high=MOST_EVENTS))
    interval = request.number("interval", default=1, low=0, high=LONGEST_SLEEP_SECONDS)
    headers = (("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache"))
    return Answer(200, _event_stream(count, interval), headers)


def _event_stream(count: int, interval: float) -> Iterator[bytes]:
    for number in range(count):
        if number:
            gevent.sleep(interval)
        yield f"id: {number}\nevent: demo\ndata: {json.dumps({'number': number})}\n\n".encode()


def _bytes(request: Request, size: str) -> Answer:
    if not size.isdecimal() or len(size) > 11 or int(size) > MOST_BYTES:
        raise Invalid(f"the number of bytes must be from 0 to {MOST_BYTES}")
    length = int(size)
    whole, rest = divmod(length, len(PIECE))
    body = itertools.chain(itertools.repeat(PIECE, whole), [PIECE[:rest]])
    return Answer(200, body, (("Content-Type", "application/octet-stream"), ("Content-Length", str(length))))


def _reset(request: Request) -> Answer:
    raise HangUp("the demo cluster hung up, as requested")


ROUTES = (
    Route("*", "/api/v1/consensus/echo", _echo),
    Route("*", "/api/v1/consensus/demo/slow", _slow),
    Route("*", "/api/v1/consensus/demo/fail", _fail),
    Route("*", "/api/v1/consensus/demo/status/{code}", _status),
    Route("GET", "/api/v1/consensus/demo/events", _events),
    Route("GET", "/api/v1/consensus/demo/bytes/{size}", _bytes),
    Route("*", "/api/v1/consensus/demo/reset", _reset),
)
