"""The OpenAPI document, for tests of what it says."""

from functools import cache
from typing import Any

import yaml

from testing.servers import ROOT


@cache
def openapi_document() -> dict[str, Any]:
    """Return docs/openapi.yaml, read once: without libyaml it takes a second each time."""
    document: dict[str, Any] = yaml.load((ROOT / "docs" / "openapi.yaml").read_text(), yaml.CSafeLoader)
    return document
