"""The policy tables, and the document that other data planes read."""

import ast
import json
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.core.management import call_command

from lucid_gateway.policy import document, keys, routes
from lucid_gateway.policy.errors import GatewayError, RateLimited, all_errors
from lucid_gateway.policy.paths import REFUSALS, AmbiguousPath, canonical_path, cases
from lucid_gateway.policy.reasons import REASONS, ROWS
from lucid_gateway.policy.roles import PERMISSIONS
from lucid_gateway.policy.routes import PathTree
from testing.servers import ROOT

FOLDER = ROOT / "lucid_gateway" / "policy"


def test_the_committed_document_is_what_the_command_prints() -> None:
    printed = StringIO()
    call_command("export_policy", stdout=printed)

    assert printed.getvalue() == (ROOT / "docs" / "policy.json").read_text(encoding="utf-8")


def test_the_document_fits_its_schema() -> None:
    schema = json.loads((FOLDER / "policy_schema.json").read_text(encoding="utf-8"))

    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(json.dumps(document.policy_document())), schema)


@pytest.mark.parametrize("module", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_module_imports_nothing_but_the_standard_library_and_the_policy(module: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")

    foreign = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert all(name.startswith("lucid_gateway.policy") for name in foreign)


def test_every_error_has_a_reason_of_the_vocabulary() -> None:
    assert {error.reason for error in all_errors()} <= REASONS.keys()


def test_a_reason_has_one_row() -> None:
    assert len(REASONS) == len(ROWS)


def test_the_page_of_reasons_lists_every_row() -> None:
    page = (ROOT / "docs" / "reasons.md").read_text(encoding="utf-8")

    for reason in ROWS:
        assert f"| `{reason.name}` | {reason.step} | {reason.audience} | {reason.text} |" in page


@pytest.mark.parametrize("error", [RateLimited(retry_after=7), GatewayError(retry_after=7)])
def test_retry_after_of_an_error_becomes_the_header(error: GatewayError) -> None:
    assert error.headers["Retry-After"] == "7"


def test_every_503_has_a_retry_after() -> None:
    without_one = [error() for error in all_errors() if error.status == 503]
    assert {error.retry_after for error in without_one} == {5}


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["input"])
def test_each_path_case_gives_its_result(case: dict[str, str]) -> None:
    if "path" in case:
        assert canonical_path(case["input"]) == case["path"]
        return
    with pytest.raises(AmbiguousPath) as refused:
        canonical_path(case["input"])
    assert refused.value.reason == case["refused"]


def test_every_refusal_of_a_path_has_a_case() -> None:
    assert {case["refused"] for case in cases() if "refused" in case} == REFUSALS.keys()


def test_all_keys_of_one_decision_share_their_hash_tag() -> None:
    user, subject = "u-1", keys.api_key("u-1", "k-1")
    names = [
        keys.rate(subject, "authenticated"), keys.quota(subject), keys.concurrent(subject), keys.locked(user),
        keys.revoked(user, "jti"), keys.epoch(user), keys.rate(keys.user(user), "admin"),
    ]  # fmt: skip

    assert {name[: name.index("}") + 1] for name in names} == {"{user:u-1}"}


def test_a_login_its_decoy_and_their_counter_share_their_hash_tag() -> None:
    names = [keys.logins("hash"), keys.decoy_logins("hash", "secret"), keys.login_starts("hash")]

    assert {name[: name.index("}") + 1] for name in names} == {"{login:hash}"}


@pytest.mark.parametrize("bucket", ["192.0.2.1", "2001:db8::/64"])
def test_the_hash_tag_of_an_address_is_the_whole_address(bucket: str) -> None:
    assert keys.rate(keys.address(bucket, "login"), "login_attempt") == f"{{ip:{bucket}}}:login:rate:login_attempt"


def test_the_name_of_a_key_contains_its_user() -> None:
    assert keys.user_id_of(keys.epoch("u-1")) == "u-1"


# Routes.


PATHS = ["a", "a/b", "a/{x}", "a/{x}/c", "a/b/{rest*}", "{y}/z"]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", ("a", {})),
        ("a/b", ("a/b", {})),
        ("a/q", ("a/{x}", {"x": "q"})),
        ("a/b/c", ("a/b/{rest*}", {"rest": "c"})),
        ("a/b/c/d", ("a/b/{rest*}", {"rest": "c/d"})),
        ("a/q/c", ("a/{x}/c", {"x": "q"})),
        ("b/z", ("{y}/z", {"y": "b"})),
        ("a/z", ("a/{x}", {"x": "z"})),
        ("a/q/d", None),
        ("b", None),
        ("", None),
        ("a/", None),
        ("a/b/", None),
    ],
)
def test_the_tree_finds_the_path_of_the_table(path: str, found: tuple[str, dict[str, str]] | None) -> None:
    assert PathTree(PATHS).find(path) == found


@pytest.mark.parametrize("paths", [["a/{x*}", "a/{y*}"], ["a/{x}/b", "a/{y}/c"]])
def test_paths_with_conflicting_parameters_are_refused(paths: list[str]) -> None:
    with pytest.raises(ValueError, match="path"):
        PathTree(paths)


@pytest.mark.parametrize("route", [route for route in routes.ROUTES if route.edge], ids=lambda route: route.path)
def test_a_path_for_the_edge_has_no_parameter_but_a_final_one(route: routes.Route) -> None:
    assert "{" not in route.path.removesuffix("/{rest*}")
    assert route.path.endswith("/{rest*}") == route.upstream.endswith("/{rest*}")


def test_the_edge_forwards_no_request_whose_outcome_is_recorded() -> None:
    assert not any(route.edge and route.recorded for route in routes.ROUTES)


def test_a_role_has_the_permission_of_each_route() -> None:
    known: set[Any] = set().union(*PERMISSIONS.values())
    assert {route.permission for route in routes.ROUTES} <= known
