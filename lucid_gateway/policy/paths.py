"""The path rules: the canonical form of each path, decided once, before anything else reads it.

The gateway refuses a path that two servers could read in different ways, so that it forwards exactly the path that it
has checked. `path_cases.json` lists inputs with their canonical form or the reason for their refusal.
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
MAX_DECODINGS = 3
# Reason for a refusal -> the text for clients.
REFUSALS = {
    "no_leading_slash": "the path does not start with a slash",
    "empty_segment": "the path has an empty segment",
    "bad_escape": "the path is not percent-encoded correctly",
    "not_utf8": "the path is not UTF-8",
    "forbidden_character": "the path has a control character or an encoded separator",
    "dot_segment": "the path has a dot segment",
    "encoded_too_often": "the path is percent-encoded too many times",
}


class AmbiguousPath(ValueError):
    """A path that could mean something else to a cluster; `reason` is a key of REFUSALS."""

    def __init__(self, reason: str) -> None:
        super().__init__(REFUSALS[reason])
        self.reason = reason


class Case(TypedDict, total=False):
    """An input, and either its canonical `path` or the reason for which it is `refused`."""

    input: str
    path: str
    refused: str


@cache
def cases() -> tuple[Case, ...]:
    """Return the cases on which every data plane must agree."""
    return tuple(json.loads((Path(__file__).parent / "path_cases.json").read_text(encoding="utf-8")))


def canonical_path(raw: str) -> str:
    """Return the decoded form of a path from the request line, without its query; raise AmbiguousPath.

    A trailing slash is kept; the caller decides what it means.
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
    """Return the decoded segment; raise AmbiguousPath for invalid escapes, separators and dot segments."""
    if "#" in segment or "?" in segment or not segment.isascii() or BROKEN_ESCAPE.search(segment):
        raise AmbiguousPath("bad_escape")
    try:
        decoded = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError as error:
        raise AmbiguousPath("not_utf8") from error
    refuse_ambiguity(decoded)
    return decoded


def refuse_ambiguity(segment: str) -> None:
    """Raise AmbiguousPath if a server that decodes the segment again could find a separator or a dot segment."""
    for _ in range(MAX_DECODINGS):
        if FORBIDDEN.search(segment):
            raise AmbiguousPath("forbidden_character")
        if segment.partition(";")[0].strip() in (".", ".."):
            raise AmbiguousPath("dot_segment")
        decoded = unquote_to_bytes(segment.encode("utf-8", "replace")).decode("utf-8", "replace")
        if decoded == segment:
            return
        segment = decoded
    raise AmbiguousPath("encoded_too_often")
