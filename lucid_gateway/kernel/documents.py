"""Documents that are the same for all clients: built once, compressed once, and not sent to a client that has them."""

import gzip
import hashlib
import json
import re
from functools import cached_property
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.http import parse_etags

ZERO_WEIGHT = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*")
MIN_COMPRESSED_BYTES = 1024  # a smaller answer fits into one packet without compression


class Document:
    """The body and headers of an answer, with a strong ETag for each encoding (RFC 9110, section 8.8.3)."""

    def __init__(self, body: bytes, content_type: str, *, cache_control: str = "no-cache") -> None:
        self.body = body
        self.content_type = content_type
        self.cache_control = cache_control
        self.digest = hashlib.sha256(body).hexdigest()[:32]

    @cached_property
    def compressed(self) -> bytes | None:
        """The gzipped body, or None if compression saves less than a tenth."""
        if len(self.body) < MIN_COMPRESSED_BYTES:
            return None
        compressed = gzip.compress(self.body, compresslevel=6, mtime=0)
        return compressed if len(compressed) < 0.9 * len(self.body) else None

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Return 304 if the client has the document, otherwise the document in an encoding that the client accepts."""
        compressed = self.compressed
        gzipped = compressed is not None and accepts_gzip(request.META.get("HTTP_ACCEPT_ENCODING", ""))
        etag = f'"{self.digest}-gzip"' if gzipped else f'"{self.digest}"'
        if matches_if_none_match(request, etag):
            response = HttpResponse(status=304)
            del response.headers["Content-Type"]
        else:
            response = HttpResponse(compressed if gzipped else self.body, content_type=self.content_type)
            response.headers["Content-Length"] = str(len(response.content))
            if gzipped:
                response.headers["Content-Encoding"] = "gzip"
        response.headers["ETag"], response.headers["Cache-Control"] = etag, self.cache_control
        if compressed is not None:
            response.headers["Vary"] = "Accept-Encoding"
        return response


def json_document(data: Any, *, content_type: str = "application/json", cache_control: str = "no-cache") -> Document:
    """Return the data as a JSON document; it ends with a newline, so that a terminal shows its prompt on a new line."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return Document(f"{text}\n".encode(), content_type, cache_control=cache_control)


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding field allows gzip (RFC 9110, section 12.5.3)."""
    accepted = {}
    for item in accept_encoding.lower().split(","):
        encoding, _, weight = item.partition(";")
        accepted[encoding.strip()] = not ZERO_WEIGHT.fullmatch(weight)
    return accepted.get("gzip", accepted.get("*", False))


def matches_if_none_match(request: HttpRequest, etag: str) -> bool:
    """Return whether If-None-Match names the ETag, by weak comparison (RFC 9110, section 13.1.2)."""
    known = parse_etags(request.META.get("HTTP_IF_NONE_MATCH", ""))
    return known == ["*"] or etag in (tag.removeprefix("W/") for tag in known)
