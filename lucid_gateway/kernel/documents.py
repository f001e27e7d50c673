"""What is the same for everybody who asks: built once, compressed once, and not sent again to who has it."""

import gzip
import hashlib
import json
import re
from functools import cached_property
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.http import parse_etags

NO_WEIGHT = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*")
WORTH_COMPRESSING = 1024  # bytes; below that an answer fits into one packet either way


class Document:
    """An answer's body and fields, with a strong ETag for each coding (RFC 9110, section 8.8.3)."""

    def __init__(self, body: bytes, content_type: str, *, cache_control: str = "no-cache") -> None:
        self.body = body
        self.content_type = content_type
        self.cache_control = cache_control
        self.digest = hashlib.sha256(body).hexdigest()[:32]

    @cached_property
    def compressed(self) -> bytes | None:
        """The body in gzip, None where that saves less than a tenth."""
        if len(self.body) < WORTH_COMPRESSING:
            return None
        compressed = gzip.compress(self.body, compresslevel=6, mtime=0)
        return compressed if len(compressed) < 0.9 * len(self.body) else None

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Return 304 to a client that has the document, else the document in a coding that the client accepts."""
        compressed = self.compressed
        coded = compressed is not None and accepts_gzip(request.META.get("HTTP_ACCEPT_ENCODING", ""))
        etag = f'"{self.digest}-gzip"' if coded else f'"{self.digest}"'
        if has_tag(request, etag):
            response = HttpResponse(status=304)
            del response.headers["Content-Type"]
        else:
            response = HttpResponse(compressed if coded else self.body, content_type=self.content_type)
            response.headers["Content-Length"] = str(len(response.content))
            if coded:
                response.headers["Content-Encoding"] = "gzip"
        response.headers["ETag"], response.headers["Cache-Control"] = etag, self.cache_control
        if compressed is not None:
            response.headers["Vary"] = "Accept-Encoding"
        return response


def json_document(data: Any, *, content_type: str = "application/json", cache_control: str = "no-cache") -> Document:
    """Return the data as a document in JSON; it ends with a newline, as a terminal wants it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return Document(f"{text}\n".encode(), content_type, cache_control=cache_control)


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether a client takes gzip (RFC 9110, section 12.5.3)."""
    accepted = {}
    for item in accept_encoding.lower().split(","):
        coding, _, weight = item.partition(";")
        accepted[coding.strip()] = not NO_WEIGHT.fullmatch(weight)
    return accepted.get("gzip", accepted.get("*", False))


def has_tag(request: HttpRequest, etag: str) -> bool:
    """Return whether If-None-Match names the ETag, by the weak comparison (RFC 9110, section 13.1.2)."""
    known = parse_etags(request.META.get("HTTP_IF_NONE_MATCH", ""))
    return known == ["*"] or etag in (tag.removeprefix("W/") for tag in known)
