"""The path rules: one spelling for each path, decided once, at the front (DESIGN, section 4).

A path that two servers could read in different ways is refused, so that the gateway judges exactly the path that it
forwards. `path_cases.json` has inputs with their canonical form or the reason of their refusal.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import TypedDict
from urllib.parse import unquote_to_bytes

PLAIN = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f/\\]")
DECODINGS = 3
# Reason of a refusal -> what clients are told.
REFUSALS = {
    "no_leading_slash": "the path does not start with a slash",
    "empty_segment": "the path has an empty segment",
    "bad_escape": "the path is not percent-encoded correctly",
    "not_utf8": "the path is not UTF-8",
    "forbidden_character": "the path has a control character or an encoded separator",
    "dot_segment": "the path has a dot segment",
    "encoded_too_often": "the path is encoded too often",
}


class AmbiguousPath(ValueError):
    """A path that could mean something else to a cluster; `reason` is a key of REFUSALS."""

    def __init__(self, reason: str) -> None:
        super().__init__(REFUSALS[reason])
        self.reason = reason


class Case(TypedDict, total=False):
    """An input, and either its canonical `path` or the reason why it is `refused`."""

    input: str
    path: str
    refused: str


@cache
def cases() -> tuple[Case, ...]:
    """Return the cases that every data plane must decide alike."""
    return tuple(json.loads((Path(__file__).parent / "path_cases.json").read_text(encoding="utf-8")))


def canonical_path(raw: str) -> str:
    """Return the decoded path of a raw one (as on the request line, without query); raise AmbiguousPath.

    A trailing slash stays; the caller decides what it means.
    """
    if PLAIN.fullmatch(raw):
        return raw
    if not raw.startswith("/"):
        raise AmbiguousPath("no_leading_slash")
    segments = raw[1:].split("/")
    if "" in segments[:-1]:
        raise AmbiguousPath("empty_segment")
    return "/" + "/".join(canonical_segment(segment) for segment in segments)


def canonical_segment(segment: str) -> str:
    """Return the decoded segment; raise AmbiguousPath for bad escapes, separators and dot segments in any encoding."""
    if "#" in segment or "?" in segment or not segment.isascii() or BROKEN_ESCAPE.search(segment):
        raise AmbiguousPath("bad_escape")
    try:
        decoded = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError as error:
        raise AmbiguousPath("not_utf8") from error
    refuse_tricks(decoded)
    return decoded


def refuse_tricks(segment: str) -> None:
    """Raise AmbiguousPath if the segment, or what further decodings would make of it, is not what it seems."""
    for _ in range(DECODINGS):
        if FORBIDDEN.search(segment):
            raise AmbiguousPath("forbidden_character")
        if segment.partition(";")[0].strip() in (".", ".."):
            raise AmbiguousPath("dot_segment")
        again = unquote_to_bytes(segment.encode("utf-8", "replace")).decode("utf-8", "replace")
        if again == segment:
            return
        segment = again
    raise AmbiguousPath("encoded_too_often")
