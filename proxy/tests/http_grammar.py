"""Strategies for what a client or a cluster might send: HTTP, almost HTTP, HTTP with changed bytes, and any bytes.

@TOKEN@ stands for an access token.
"""

from hypothesis import strategies as st

TOKEN_MARK = b"@TOKEN@"
AUTHORIZATION = b"Authorization: Bearer " + TOKEN_MARK
SMUGGLED = b"GET /api/v1/wallets/smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n" + AUTHORIZATION + b"\r\n\r\n"
METHODS = st.sampled_from(
    [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"PATCH", b"OPTIONS", b"get", b"CONNECT", b"G T", b""]
)
SEGMENTS = st.sampled_from(
    [
        b"wallets",
        b"rdp",
        b"nodes",
        b"storage",
        b"chain",
        b"blocks",
        b"a",
        b".",
        b"..",
        b"%2e",
        b"%2E%2e",
        b"%252e",
        b"..;",
        b";",
        b"%2f",
        b"%5c",
        b"\\",
        b"%00",
        b"%0d%0a",
        b"%ff",
        b"%c3%a9",
        b"\xc3\xa9",
        b"%",
        b"",
        b"a b",
        b"a\tb",
        b"~",
        b"%41",
        b"admin",
    ]
)
PREFIXES = st.sampled_from(
    [b"/api/v1/wallets"] * 5
    + [b"/api/v1", b"/api/v1/rdp", b"", b"//evil", b"http://127.0.0.1/api/v1/wallets", b"/API/V1", b"*"]
)
QUERIES = st.sampled_from([b"", b"", b"?a=1&a=2", b"?%", b"?\xff", b"?x=/../y", b"??", b"?%0d%0aX:y", b"#x", b"?a#b"])
TARGETS = st.builds(
    lambda prefix, parts, query: b"/".join([prefix, *parts]) + query, PREFIXES, st.lists(SEGMENTS, max_size=4), QUERIES
)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 20 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/1.1 ", b""])
LINE_ENDS = st.sampled_from([b"\r\n"] * 60 + [b"\n", b"\r", b"\r\r\n", b"\r\n "])
NAMES = st.sampled_from(
    [
        b"X-User-Id",
        b"x_user_id",
        b"X-User-Role",
        b"X-USER-PERMISSIONS",
        b"X-Forwarded-For",
        b"X-Forwarded-Host",
        b"Via",
        b"X-Request-ID",
        b"Forwarded",
        b"Connection",
        b"Keep-Alive",
        b"TE",
        b"Trailer",
        b"Upgrade",
        b"Proxy-Authorization",
        b"Expect",
        b"Cookie",
        b"Host",
        b"Content-Type",
        b"X-Other",
        b"X-Other",
        b"X.Dot",
        b"Proxy-Connection",
        b"X-Api-Key-",
        b"X-Bad Name",
        b"X-Bad\x00",
        b"",
        b" X",
        b"X:",
    ]
)
VALUES = st.sampled_from(
    [
        b"1",
        b"",
        b"root",
        b"close",
        b"keep-alive, X-Other, Host",
        b"content-length",
        b"x-user-id, via, host",
        b"100-continue",
        b"h2c",
        b"websocket",
        b"a\xe9\xff",
        b"a\tb",
        b"a\x00b",
        b"a\rb",
        b"a\nX-User-Id: root",
        b"a\x7fb",
        b"a,b",
        b'"x"',
        b"chunked",
        b"127.0.0.1",
    ]
) | st.binary(max_size=6)
FIELDS = st.builds(
    lambda name, value, gap: name + b":" + gap + value, NAMES, VALUES, st.sampled_from([b" ", b"", b"\t", b"  "])
)
FRAMINGS = st.lists(
    st.sampled_from(
        [
            b"Content-Length: @SIZE@",
            b"Content-Length: @SIZE@",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: chunked",
            b"Content-Length: 0",
            b"Content-Length: 5",
            b"Content-Length: +5",
            b"Content-Length: 5, 5",
            b"Content-Length: 0x5",
            b"Content-Length: \xb2",
            b"Content-Length: ",
            b"Content-Length: 5 5",
            b"Content-Length : 5",
            b"Content_Length: 5",
            b"Transfer-Encoding: Chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: chunked, identity",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding:\x0bchunked",
            b"Transfer-Encoding : chunked",
            b'Transfer-Encoding: "chunked"',
            b"Transfer_Encoding: chunked",
            b"Transfer-Encoding: chunked;a=b",
            b"Content-Length: 99999999999999999999",
        ]
    ),
    max_size=2,
)
CHUNKS = st.lists(
    st.sampled_from(
        [
            b"5\r\nhello\r\n",
            b"0\r\n\r\n",
            b"0\r\n\r\n",
            b"a;x=y\r\n0123456789\r\n",
            b"5\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"5\r\nhello",
            b"-1\r\n\r\n",
            b" 5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"5;\nx\r\nhello\r\n",
            b"00005\r\nhello\r\n",
            b"ffffffffffffffffff\r\n",
            b"0\r\nX-User-Id: root\r\n\r\n",
            b"0\r\nContent-Length: 5\r\n\r\n",
            b"2\r\nhi\r\r\n",
            b"\r\n",
            b"0\r\n",
            SMUGGLED,
        ]
    ),
    max_size=4,
).map(b"".join)
BODIES = st.sampled_from([b"", b"hello", SMUGGLED, b"0\r\n\r\n" + SMUGGLED]) | CHUNKS | st.binary(max_size=10)


def written(
    line: bytes, fields: list[bytes], framing: list[bytes], bodies: tuple[bytes, bytes], ends: list[bytes]
) -> bytes:
    """Return the bytes of a request; `bodies` are its body and the bytes that follow it."""
    lines = [line, b"Host: 127.0.0.1", AUTHORIZATION, *fields, *framing]
    ends = (ends + [b"\r\n"] * len(lines))[: len(lines)]
    head = b"".join(line + end for line, end in zip(lines, ends, strict=True))
    body, after = bodies
    return head.replace(b"@SIZE@", b"%d" % len(body)) + b"\r\n" + body + after


LINES = st.builds(lambda *words: b" ".join(words), METHODS, TARGETS, VERSIONS)
AFTER = st.sampled_from([b"", b"", SMUGGLED, b"\r\n" + SMUGGLED, b"\x00"])
REQUESTS = st.builds(
    written, LINES, st.lists(FIELDS, max_size=4), FRAMINGS, st.tuples(BODIES, AFTER), st.lists(LINE_ENDS, max_size=5)
)
PLAIN_LINES = st.sampled_from([b"GET", b"POST", b"PUT"]).map(lambda method: method + b" /api/v1/wallets/a?b=c HTTP/1.1")
PLAIN_FRAMINGS = st.sampled_from([[b"Content-Length: @SIZE@"], [b"Transfer-Encoding: chunked"], []])
PLAIN = st.builds(
    written, PLAIN_LINES, st.lists(FIELDS, max_size=2), PLAIN_FRAMINGS, st.tuples(BODIES, AFTER), st.just([])
)
EDITS = st.lists(
    st.tuples(
        st.integers(0, 1000),
        st.integers(0, 3),
        st.sampled_from(
            [b"", b"\r\n", b"\n", b"\r", b" ", b"\t", b"\x00", b":", b",", b"0", b";", b"chunked", b"\x80", b"\r\n\r\n"]
        )
        | st.binary(max_size=3),
    ),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Return the bytes with a few of them replaced."""
    for place, size, new in edits:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + size :]
    return data


ANYTHING = PLAIN | PLAIN | REQUESTS | st.builds(edited, PLAIN | REQUESTS, EDITS) | st.binary(max_size=200)

STATUS_LINES = st.sampled_from(
    [b"HTTP/1.1 200 OK"] * 6
    + [
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 204 No Content",
        b"HTTP/1.1 304 Not Modified",
        b"HTTP/1.1 103 Early",
        b"HTTP/1.1 100 Continue",
        b"HTTP/1.1 101 Switching",
        b"HTTP/1.1 404 ",
        b"HTTP/1.1 500",
        b"HTTP/1.1 299 \xe9",
        b"HTTP/1.1 600 X",
        b"HTTP/1.1 99 X",
        b"HTTP/2 200",
        b"HTTP/1.1  200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 O\x00K",
    ]
)
ANSWER_FIELDS = st.sampled_from(
    [
        b"Content-Type: text/plain",
        b"Set-Cookie: a=b",
        b"Connection: close",
        b"Connection: keep-alive, X-Other",
        b"X-Other: \xe9",
        b"X-Other: a\x00b",
        b"X-Other: a\nb",
        b"X-Other : 1",
        b"X-Other",
        b": 1",
        b" folded",
        b"X-RateLimit-Limit: 1",
        b"Upgrade: x",
        b"Via: 1.0 x",
        b"Access-Control-Allow-Origin: *",
        b"X-Request-ID: theirs",
        b"Date: x",
        b"Trailer: X",
        b"X Y: 1",
    ]
)


def answered(lines: list[bytes], framing: list[bytes], body: bytes, after: bytes) -> bytes:
    """Return the bytes of an answer."""
    head = b"\r\n".join([*lines, *framing]).replace(b"@SIZE@", b"%d" % len(body))
    return head + b"\r\n\r\n" + body + after


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
ANSWERS = st.builds(
    answered,
    st.builds(lambda first, rest: [first, *rest], STATUS_LINES, st.lists(ANSWER_FIELDS, max_size=3)),
    FRAMINGS,
    BODIES,
    st.sampled_from([b"", b"", b"\r\n", OK, b"x"]),
)
PLAIN_ANSWERS = st.builds(
    answered,
    st.just([b"HTTP/1.1 200 OK"]),
    st.sampled_from([[b"Content-Length: @SIZE@"], [b"Transfer-Encoding: chunked"], [b"Content-Length: 8"], []]),
    BODIES,
    st.sampled_from([b"", OK]),
)
INTERIM = st.sampled_from([b""] * 4 + [b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
WELL_MEANT = st.builds(lambda interim, answer: interim + answer, INTERIM, ANSWERS | PLAIN_ANSWERS)
ANY_ANSWER = WELL_MEANT | st.builds(edited, WELL_MEANT, EDITS) | st.binary(max_size=100)
