"""What the API document says of sessions and what belongs to them."""

import pytest
import yaml

from testing.servers import ROOT

PATHS = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())["paths"]
ONE = ("sessions/{session_id}", "sessions/{session_id}/chunks/{chunk_id}", "manifests/{manifest_id}",
       "trust/policies/{policy_id}")  # fmt: skip
TAGGED = [("post", "sessions"), ("post", "manifests"), ("post", "manifests/{manifest_id}/anchor"),
          ("post", "trust/policies"), *(("get", path) for path in ONE)]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), TAGGED)
def test_the_tag_of_an_answer_is_described(method: str, path: str) -> None:
    answers = PATHS[f"/api/v1/{path}"][method]["responses"]
    assert all("ETag" in answer["headers"] for status, answer in answers.items() if status in ("200", "201", "202"))


@pytest.mark.parametrize("path", ONE)
def test_that_a_known_tag_spares_the_answer_is_described(path: str) -> None:
    assert "If-None-Match" in {field["name"] for field in PATHS[f"/api/v1/{path}"]["get"]["parameters"]}
