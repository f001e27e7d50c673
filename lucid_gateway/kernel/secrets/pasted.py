"""API keys and tokens in texts that people paste, and what of them may be shown and searched for."""

import base64
import json
import re

# A whole API key; the group is its id.
API_KEY = re.compile(r"lk_([a-z0-9]{12})_[A-Za-z0-9_-]{43}")
# The part of an API key that identifies it, and whatever follows.
KEY_PREFIX = re.compile(r"lk_([a-z0-9]{12})(_.*)?", re.DOTALL)
TOKEN = re.compile(r"eyJ[\w-]{8,}\.([\w-]+)\.[\w-]*")
AFTER_PREFIX = re.compile(r"(lk_[a-z0-9]{12})_\S+")


def without_secrets(text: str) -> str:
    """Return the text with prefixes in place of API keys, whole or not, and ids (jti) in place of tokens."""
    return TOKEN.sub(lambda token: jti_of(token[1]), AFTER_PREFIX.sub(r"\1", text))


def jti_of(claims: str) -> str:
    """Return the id in the claims of a token, whose signature nobody checks here; empty if there is none."""
    try:
        decoded = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return str(decoded["jti"])
    except (ValueError, KeyError, TypeError):
        return ""
