"""/admin/clusters: the state of clusters and instances, and starting and ending their maintenance."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from conftest import ApiClient, error_code, make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.policy.roles import Role
from proxy.choosing.closures import closures_cache, is_closed
from proxy.choosing.reports import InstanceReport
from proxy.clusters import Instance
from proxy.models import Maintenance
from proxy.operators import overview
from proxy.operators.closing import close_cluster

PATH = "/admin/clusters"
CORE = f"{PATH}/blockchain_core/maintenance"
LATER = "2999-01-01T00:00:00Z"
NEW = {"kind": "drain", "reason": "an upgrade"}
FIELDS = {
    "maintenance_id", "cluster", "instance", "kind", "state", "reason", "starts_at", "ends_at", "created_by",
    "created_at",
}  # fmt: skip
NO_REPORTS = {
    "workers": 0, "in_flight": None, "breaker": "unknown", "health": "unknown", "requests": None, "failures": None,
    "down_since": None, "last_error": "", "last_error_at": None,
}  # fmt: skip
Twins = tuple[Instance, Instance]
pytestmark = pytest.mark.usefixtures("twins")


@pytest.fixture
def token(admin: User) -> str:
    """The admin's access token."""
    return issue_tokens(admin).access


def in_minutes(minutes: float) -> str:
    return (timezone.now() + timedelta(minutes=minutes)).isoformat()


def cluster(api: ApiClient, token: str, name: str = "blockchain_core") -> dict[str, Any]:
    """Return a cluster as the API shows it."""
    shown = api.send("get", PATH, token=token).json()["clusters"]
    found: dict[str, Any] = next(one for one in shown if one["name"] == name)
    return found


def codes(response: Any) -> dict[str, str]:
    """Return the error code of each refused field."""
    return {problem["field"]: problem["code"] for problem in response.json()["error"]["details"]["validation_errors"]}


def report(twin: Instance, **reported: Any) -> InstanceReport:
    fields: dict[str, Any] = {
        "gateway": "one", "worker": 1, "cluster": "blockchain_core", "instance": twin.url, "in_flight": 2,
        "breaker": "closed", "open_until": 0.0, "health": "healthy", "requests": 10, "failures": 1,
    }  # fmt: skip
    return InstanceReport(**fields | reported)


def set_reports(monkeypatch: pytest.MonkeyPatch, *reports: InstanceReport) -> None:
    """Replace the workers' reports."""
    monkeypatch.setattr(overview, "read_reports", lambda: list(reports))


# Listing


def test_the_configured_clusters_are_listed(api: ApiClient, token: str) -> None:
    shown = api.send("get", PATH, token=token).json()

    assert [(one["name"], one["service"]) for one in shown["clusters"]] == [
        ("blockchain_core", "lucid-blocks"), ("session_management", "session-management"),
        ("tron_payment", "tron-payment-service"),
    ]  # fmt: skip
    assert set(shown["clusters"][0]) == {"name", "service", "state", "instances", "maintenance"}


def test_instances_without_reports_are_unknown(api: ApiClient, token: str) -> None:
    shown = cluster(api, token)

    assert (shown["state"], shown["maintenance"]) == ("open", [])
    open_one = {"state": "open", "closed_for": None} | NO_REPORTS
    assert shown["instances"] == [{"url": url} | open_one for url in ("http://one.test:8084", "http://two.test")]


def test_the_counts_of_the_workers_are_summed(
    api: ApiClient, token: str, twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = report(twins[0], cluster="tron_payment", in_flight=90)
    set_reports(monkeypatch, report(twins[0]), report(twins[0], worker=2), report(twins[0], gateway="two"), other)

    one, two = cluster(api, token)["instances"]
    assert one | {"workers": 3, "in_flight": 6, "requests": 30, "failures": 3} == one
    assert (one["breaker"], one["health"]) == ("closed", "healthy")
    assert two.items() >= NO_REPORTS.items()


WORST = [
    (("closed", "open", "half-open"), "open"), (("closed", "half-open"), "half-open"), (("closed", "closed"), "closed"),
]  # fmt: skip


@pytest.mark.parametrize(("reported", "shown"), WORST)
def test_the_worst_breaker_is_shown(
    *, api: ApiClient, token: str, twins: Twins, monkeypatch: pytest.MonkeyPatch, reported: tuple[str, ...], shown: str
) -> None:
    set_reports(monkeypatch, *(report(twins[0], breaker=word) for word in reported))
    assert cluster(api, token)["instances"][0]["breaker"] == shown


@pytest.mark.parametrize(
    ("reported", "shown"), [(("healthy", "unhealthy", "unknown"), "unhealthy"), (("unknown", "healthy"), "healthy")]
)
def test_the_worst_health_is_shown(
    *, api: ApiClient, token: str, twins: Twins, monkeypatch: pytest.MonkeyPatch, reported: tuple[str, ...], shown: str
) -> None:
    set_reports(monkeypatch, *(report(twins[0], health=word) for word in reported))
    assert cluster(api, token)["instances"][0]["health"] == shown


def test_the_first_worker_says_since_when_it_is_down_and_the_last_error_of_any_is_shown(
    api: ApiClient, token: str, twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = {"down_since": 60.0, "last_error": "no answer within 2 s", "last_error_at": 80.0}
    two = {"down_since": 50.0, "last_error": "connection refused", "last_error_at": 90.0}
    reports = [report(twins[0], **fields) for fields in (one, two, {"down_since": None, "last_error_at": None})]
    set_reports(monkeypatch, *reports)

    shown = cluster(api, token)["instances"][0]
    assert shown["down_since"] == "1970-01-01T00:00:50Z"
    assert (shown["last_error"], shown["last_error_at"]) == ("connection refused", "1970-01-01T00:01:30Z")


def test_an_instance_in_maintenance_is_not_down_since_any_time(
    api: ApiClient, token: str, twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_reports(monkeypatch, report(twins[0], down_since=60.0))
    close_cluster(cluster="blockchain_core", kind="maintenance", reason="x", by="operator")

    assert cluster(api, token)["instances"][0]["down_since"] is None


def test_clusters_are_listed_without_redis_too(api: ApiClient, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable() -> list[InstanceReport]:
        raise RedisUnavailable()

    monkeypatch.setattr(overview, "read_reports", unavailable)
    assert cluster(api, token)["instances"][0].items() >= NO_REPORTS.items()


def test_only_current_and_scheduled_maintenance_is_listed(api: ApiClient, token: str) -> None:
    api.send("post", CORE, NEW | {"starts_at": in_minutes(60), "reason": "later"}, token=token)
    api.send("post", CORE, NEW | {"reason": "now"}, token=token)
    over = {"cluster": "blockchain_core", "kind": "drain", "starts_at": in_minutes(-9), "ends_at": in_minutes(-1)}
    Maintenance.objects.create(**over)

    shown = cluster(api, token)
    assert [(row["reason"], row["state"]) for row in shown["maintenance"]] == [("now", "in_force"), ("later", "coming")]
    assert set(shown["maintenance"][0]) == FIELDS
    assert cluster(api, token, "tron_payment")["maintenance"] == []


# Closing


def test_a_cluster_is_closed(api: ApiClient, token: str, admin: User) -> None:
    response = api.send("post", CORE, NEW, token=token)

    body = response.json()
    assert (response.status_code, set(body)) == (201, FIELDS)
    assert body.items() >= {"cluster": "blockchain_core", "instance": "", "state": "in_force", "ends_at": None}.items()
    assert body.items() >= (NEW | {"created_by": str(admin.pk)}).items()
    shown = cluster(api, token)
    assert (shown["state"], [one["closed_for"] for one in shown["instances"]]) == ("closed", ["drain", "drain"])


def test_an_instance_is_closed(api: ApiClient, token: str, twins: Twins) -> None:
    data = {"kind": "maintenance", "reason": "x", "instance": "http://two.test:80"}
    assert api.send("post", CORE, data, token=token).json()["instance"] == "http://two.test"

    shown = cluster(api, token)
    assert shown["state"] == "degraded"
    assert [(one["state"], one["closed_for"]) for one in shown["instances"]] == [
        ("open", None), ("closed", "maintenance"),
    ]  # fmt: skip


def test_a_scheduled_window_closes_nothing_yet(api: ApiClient, token: str, twins: Twins) -> None:
    window = {"starts_at": in_minutes(10), "ends_at": in_minutes(20)}
    response = api.send("post", CORE, NEW | window, token=token)

    assert (response.status_code, response.json()["state"]) == (201, "coming")
    assert cluster(api, token)["state"] == "open"
    assert not is_closed("blockchain_core", twins[0])


def test_a_start_in_the_past_means_now(api: ApiClient, token: str) -> None:
    api.send("post", CORE, NEW | {"starts_at": in_minutes(-60)}, token=token)

    assert timezone.now() - Maintenance.objects.get().starts_at < timedelta(seconds=10)


BAD: list[tuple[dict[str, Any], str, dict[str, str]]] = [
    ({"kind": "drain"}, "1002", {"reason": "required"}),
    ({"reason": "x"}, "1002", {"kind": "required"}),
    (NEW | {"kind": "evil"}, "1003", {"kind": "invalid_choice"}),
    (NEW | {"reason": ""}, "1002", {"reason": "blank"}),
    (NEW | {"reason": "x" * 201}, "1004", {"reason": "max_length"}),
    (NEW | {"instance": "http://three.test"}, "1003", {"instance": "invalid_choice"}),
    (NEW | {"instance": "two.test"}, "1003", {"instance": "invalid_choice"}),
    (NEW | {"instance": "http://["}, "1003", {"instance": "invalid_choice"}),
    (NEW | {"instance": "http://two.test:x"}, "1003", {"instance": "invalid_choice"}),
    (NEW | {"instance": "x" * 301}, "1003", {"instance": "invalid_choice"}),
    (NEW | {"starts_at": "soon"}, "1008", {"starts_at": "invalid_date"}),
    (NEW | {"ends_at": "2020-01-01T00:00:00Z"}, "1008", {"ends_at": "invalid_date"}),
    (NEW | {"starts_at": LATER, "ends_at": "2998-12-31T23:59:59Z"}, "1008", {"ends_at": "invalid_date"}),
    (NEW | {"starts_at": LATER, "ends_at": LATER}, "1008", {"ends_at": "invalid_date"}),
    ({"kind": "evil", "reason": ""}, "1001", {"kind": "invalid_choice", "reason": "blank"}),
]  # fmt: skip


def test_invalid_maintenance_gets_422(api: ApiClient, token: str) -> None:
    for fields, number, found in BAD:
        response = api.send("post", CORE, fields, token=token)

        assert (response.status_code, error_code(response), codes(response)) == (422, number, found), fields
    assert not Maintenance.objects.exists()


# Opening


def test_a_cluster_is_opened_and_its_rows_stay(api: ApiClient, token: str, admin: User, twins: Twins) -> None:
    api.send("post", CORE, NEW, token=token)
    api.send("post", CORE, NEW | {"instance": twins[0].url}, token=token)

    response = api.send("delete", CORE, token=token)

    assert (response.status_code, response.content) == (204, b"")
    assert cluster(api, token)["state"] == "degraded"
    row = Maintenance.objects.get(instance="")
    assert (row.ended_by, row.state) == (str(admin.pk), "over")


def test_an_instance_is_opened_in_any_spelling(api: ApiClient, token: str, twins: Twins) -> None:
    api.send("post", CORE, NEW, token=token)
    api.send("post", CORE, NEW | {"instance": "http://two.test"}, token=token)

    assert api.send("delete", f"{CORE}?instance=http://Two.test:80/", token=token).status_code == 204
    assert Maintenance.objects.not_over().get().instance == ""


def test_one_of_several_rows_can_be_ended_alone(api: ApiClient, token: str) -> None:
    first, second = (api.send("post", CORE, NEW, token=token).json()["maintenance_id"] for _ in range(2))

    assert api.send("delete", f"{CORE}?maintenance_id={first}", token=token).status_code == 204
    assert str(Maintenance.objects.not_over().get().pk) == second
    assert api.send("delete", f"{CORE}?maintenance_id={first}", token=token).status_code == 404
    other = f"{PATH}/tron_payment/maintenance?maintenance_id={second}"
    assert api.send("delete", other, token=token).status_code == 404


def test_maintenance_of_a_removed_instance_can_be_ended(api: ApiClient, token: str) -> None:
    gone = "http://gone.test:1"
    Maintenance.objects.create(cluster="blockchain_core", instance=gone, kind="drain", reason="x")

    assert api.send("delete", f"{CORE}?instance={gone}", token=token).status_code == 204


NOT_FOUND = {
    "?instance=http://three.test": (422, "1003"), "?instance=http://two.test": (404, "4001"), "": (404, "4001"),
    "?maintenance_id=x": (422, "1005"),
}  # fmt: skip


def test_unknown_maintenance_cannot_be_ended(api: ApiClient, token: str, twins: Twins) -> None:
    close_cluster(cluster="blockchain_core", instance=twins[0].url, kind="drain", reason="x", by="operator")
    responses = {query: api.send("delete", f"{CORE}{query}", token=token) for query in NOT_FOUND}

    found = {query: (response.status_code, error_code(response)) for query, response in responses.items()}
    assert found == NOT_FOUND
    assert Maintenance.objects.not_over().count() == 1


@pytest.mark.parametrize("name", ["nobody", "rdp_services", "Blockchain_core"])
def test_a_cluster_that_is_not_configured_is_not_found(api: ApiClient, token: str, name: str) -> None:
    path = f"{PATH}/{name}/maintenance"
    responses = [api.send("post", path, NEW, token=token), api.send("delete", path, token=token)]

    assert [(one.status_code, error_code(one)) for one in responses] == [(404, "4001")] * 2


# Permissions and audit


def each_method(api: ApiClient, token: str | None) -> list[Any]:
    return [
        api.send("get", PATH, token=token),
        api.send("post", CORE, NEW, token=token),
        api.send("delete", CORE, token=token),
    ]


@pytest.mark.parametrize("role", ["user", "node_operator"])
def test_users_who_are_not_staff_are_refused(api: ApiClient, db: None, role: str) -> None:
    close_cluster(cluster="blockchain_core", kind="drain", reason="x", by="operator")
    token = issue_tokens(make_user("somebody", Role(role))).access

    assert [error_code(response) for response in each_method(api, token)] == ["2004"] * 3
    assert Maintenance.objects.not_over().count() == 1


@pytest.mark.parametrize("role", ["admin", "super_admin"])
def test_staff_may_use_all_methods(api: ApiClient, db: None, role: str) -> None:
    token = issue_tokens(make_user("somebody", Role(role))).access

    assert [response.status_code for response in each_method(api, token)] == [200, 201, 204]


def test_a_key_for_reading_cannot_close_a_cluster(api: ApiClient, admin: User) -> None:
    reads = {"X-API-Key": create_api_key(admin, name="reads", permissions=["admin:read"])[1]}

    assert api.send("get", PATH, headers=reads).status_code == 200
    assert error_code(api.send("post", CORE, NEW, headers=reads)) == "2004"
    assert error_code(api.send("delete", CORE, headers=reads)) == "2004"


def test_requests_without_a_token_are_refused(api: ApiClient, db: None) -> None:
    assert [error_code(response) for response in each_method(api, None)] == ["2001"] * 3


def test_changes_are_audited_and_refusals_are_not(api: ApiClient, token: str, admin: User) -> None:
    api.send("post", CORE, NEW | {"kind": "evil"}, token=token)
    api.send("delete", CORE, token=token)
    api.send("post", CORE, NEW, token=token)
    api.send("delete", CORE, token=token)

    events = AuditEvent.objects.filter(type__startswith="cluster.").order_by("created_at")
    assert [(event.type, event.actor) for event in events] == [
        ("cluster.closed", str(admin.pk)), ("cluster.opened", str(admin.pk)),
    ]  # fmt: skip


def test_the_worker_that_closes_a_cluster_follows_immediately(api: ApiClient, token: str, twins: Twins) -> None:
    api.send("post", CORE, NEW, token=token)
    assert is_closed("blockchain_core", twins[0])

    api.send("delete", CORE, token=token)
    assert closures_cache.current.closed == {}
