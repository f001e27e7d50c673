"""The path rules: one way to write each path, decided once, at the front (DESIGN, section 4).

What two servers could read differently is refused, so that policy is judged on exactly the path that is forwarded.
"""

import re
from urllib.parse import unquote_to_bytes

PLAIN = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f/\\]")
DECODINGS = 3


class AmbiguousPath(ValueError):
    """The path could mean something else to a cluster than to the gateway."""


def canonical_path(raw: str) -> str:
    """Return the decoded path of a raw one (as on the request line, without query); raise AmbiguousPath.

    A trailing slash is kept: the caller decides what it means.
    """
    if PLAIN.fullmatch(raw):
        return raw
    if not raw.startswith("/"):
        raise AmbiguousPath("the path does not start with a slash")
    segments = raw[1:].split("/")
    if "" in segments[:-1]:
        raise AmbiguousPath("the path holds an empty segment")
    return "/" + "/".join(canonical_segment(segment) for segment in segments)


def canonical_segment(segment: str) -> str:
    """Return the decoded segment; raise AmbiguousPath for bad escapes, separators and dot segments in any coding."""
    if "#" in segment or "?" in segment or not segment.isascii() or BROKEN_ESCAPE.search(segment):
        raise AmbiguousPath("the path is not percent-encoded right")
    try:
        decoded = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError as error:
        raise AmbiguousPath("the path is not UTF-8") from error
    refuse_tricks(decoded)
    return decoded


def refuse_tricks(segment: str) -> None:
    """Raise AmbiguousPath if the segment, or what a second decoding would make of it, is a trick."""
    for _ in range(DECODINGS):
        if FORBIDDEN.search(segment):
            raise AmbiguousPath("the path holds a control character or an encoded separator")
        if segment.partition(";")[0].strip() in (".", ".."):
            raise AmbiguousPath("the path holds a dot segment")
        again = unquote_to_bytes(segment.encode("utf-8", "replace")).decode("utf-8", "replace")
        if again == segment:
            return
        segment = again
    raise AmbiguousPath("the path is encoded too often")
