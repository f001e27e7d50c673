"""The OpenAPI document describes entity tags of sessions, manifests and policies."""

import pytest

from testing.openapi import openapi_document

PATHS = openapi_document()["paths"]
ONE = ("sessions/{session_id}", "sessions/{session_id}/chunks/{chunk_id}", "manifests/{manifest_id}",
       "trust/policies/{policy_id}")  # fmt: skip
TAGGED = [("post", "sessions"), ("post", "manifests"), ("post", "manifests/{manifest_id}/anchor"),
          ("post", "trust/policies"), *(("get", path) for path in ONE)]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), TAGGED)
def test_the_document_describes_the_etag_header(method: str, path: str) -> None:
    answers = PATHS[f"/api/v1/{path}"][method]["responses"]
    assert all("ETag" in answer["headers"] for status, answer in answers.items() if status in ("200", "201", "202"))


@pytest.mark.parametrize("path", ONE)
def test_the_document_describes_the_304_answer(path: str) -> None:
    assert "If-None-Match" in {field["name"] for field in PATHS[f"/api/v1/{path}"]["get"]["parameters"]}
