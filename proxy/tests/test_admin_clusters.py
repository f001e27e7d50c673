"""/admin/clusters: what is up, what is out of service, and how it gets there and back."""

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
NOBODY_TELLS = {
    "workers": 0, "in_flight": None, "breaker": "unknown", "health": "unknown", "requests": None, "failures": None,
}  # fmt: skip
Twins = tuple[Instance, Instance]
pytestmark = pytest.mark.usefixtures("twins")


@pytest.fixture
def token(admin: User) -> str:
    """The admin's access token."""
    return issue_tokens(admin).access


def moment(minutes: float) -> str:
    return (timezone.now() + timedelta(minutes=minutes)).isoformat()


def cluster(api: ApiClient, token: str, name: str = "blockchain_core") -> dict[str, Any]:
    """Return what is shown of a cluster."""
    shown = api.send("get", PATH, token=token).json()["clusters"]
    found: dict[str, Any] = next(one for one in shown if one["name"] == name)
    return found


def codes(response: Any) -> dict[str, str]:
    """Return which code each field was refused with."""
    return {problem["field"]: problem["code"] for problem in response.json()["error"]["details"]["validation_errors"]}


def report(twin: Instance, **said: Any) -> InstanceReport:
    fields: dict[str, Any] = {
        "gateway": "one", "worker": 1, "cluster": "blockchain_core", "instance": twin.url, "in_flight": 2,
        "breaker": "closed", "open_until": 0.0, "health": "healthy", "requests": 10, "failures": 1,
    }  # fmt: skip
    return InstanceReport(**fields | said)


def told(monkeypatch: pytest.MonkeyPatch, *reports: InstanceReport) -> None:
    """Let the workers tell this."""
    monkeypatch.setattr(overview, "read_reports", lambda: list(reports))


# Seeing


def test_the_configured_clusters_are_listed(api: ApiClient, token: str) -> None:
    shown = api.send("get", PATH, token=token).json()

    assert [(one["name"], one["service"]) for one in shown["clusters"]] == [
        ("blockchain_core", "lucid-blocks"), ("session_management", "session-management"),
        ("tron_payment", "tron-payment-service"),
    ]  # fmt: skip
    assert set(shown["clusters"][0]) == {"name", "service", "state", "instances", "maintenance"}


def test_nothing_is_known_of_instances_that_no_worker_tells_of(api: ApiClient, token: str) -> None:
    shown = cluster(api, token)

    assert (shown["state"], shown["maintenance"]) == ("open", [])
    open_one = {"state": "open", "closed_for": None} | NOBODY_TELLS
    assert shown["instances"] == [{"url": url} | open_one for url in ("http://one.test:8084", "http://two.test")]


def test_what_the_workers_tell_is_summed(
    api: ApiClient, token: str, twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = report(twins[0], cluster="tron_payment", in_flight=90)
    told(monkeypatch, report(twins[0]), report(twins[0], worker=2), report(twins[0], gateway="two"), other)

    one, two = cluster(api, token)["instances"]
    assert one | {"workers": 3, "in_flight": 6, "requests": 30, "failures": 3} == one
    assert (one["breaker"], one["health"]) == ("closed", "healthy")
    assert two.items() >= NOBODY_TELLS.items()


WORST = [
    (("closed", "open", "half-open"), "open"), (("closed", "half-open"), "half-open"), (("closed", "closed"), "closed"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "shown"), WORST)
def test_the_worst_breaker_is_shown(
    *, api: ApiClient, token: str, twins: Twins, monkeypatch: pytest.MonkeyPatch, said: tuple[str, ...], shown: str
) -> None:
    told(monkeypatch, *(report(twins[0], breaker=word) for word in said))
    assert cluster(api, token)["instances"][0]["breaker"] == shown


@pytest.mark.parametrize(
    ("said", "shown"), [(("healthy", "unhealthy", "unknown"), "unhealthy"), (("unknown", "healthy"), "healthy")]
)
def test_the_worst_health_is_shown(
    *, api: ApiClient, token: str, twins: Twins, monkeypatch: pytest.MonkeyPatch, said: tuple[str, ...], shown: str
) -> None:
    told(monkeypatch, *(report(twins[0], health=word) for word in said))
    assert cluster(api, token)["instances"][0]["health"] == shown


def test_without_redis_clusters_are_listed_all_the_same(
    api: ApiClient, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> list[InstanceReport]:
        raise RedisUnavailable()

    monkeypatch.setattr(overview, "read_reports", away)
    assert cluster(api, token)["instances"][0].items() >= NOBODY_TELLS.items()


def test_what_is_in_force_and_to_come_is_shown_and_what_is_over_is_not(api: ApiClient, token: str) -> None:
    api.send("post", CORE, NEW | {"starts_at": moment(60), "reason": "later"}, token=token)
    api.send("post", CORE, NEW | {"reason": "now"}, token=token)
    over = {"cluster": "blockchain_core", "kind": "drain", "starts_at": moment(-9), "ends_at": moment(-1)}
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


def test_a_window_to_come_closes_nothing_yet(api: ApiClient, token: str, twins: Twins) -> None:
    window = {"starts_at": moment(10), "ends_at": moment(20)}
    response = api.send("post", CORE, NEW | window, token=token)

    assert (response.status_code, response.json()["state"]) == (201, "coming")
    assert cluster(api, token)["state"] == "open"
    assert not is_closed("blockchain_core", twins[0])


def test_a_start_that_is_past_is_now(api: ApiClient, token: str) -> None:
    api.send("post", CORE, NEW | {"starts_at": moment(-60)}, token=token)

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


def test_bad_maintenance_is_422(api: ApiClient, token: str) -> None:
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


def test_an_instance_is_opened_however_it_is_written(api: ApiClient, token: str, twins: Twins) -> None:
    api.send("post", CORE, NEW, token=token)
    api.send("post", CORE, NEW | {"instance": "http://two.test"}, token=token)

    assert api.send("delete", f"{CORE}?instance=http://Two.test:80/", token=token).status_code == 204
    assert Maintenance.objects.not_over().get().instance == ""


def test_one_of_several_is_ended_alone(api: ApiClient, token: str) -> None:
    first, second = (api.send("post", CORE, NEW, token=token).json()["maintenance_id"] for _ in range(2))

    assert api.send("delete", f"{CORE}?maintenance_id={first}", token=token).status_code == 204
    assert str(Maintenance.objects.not_over().get().pk) == second
    assert api.send("delete", f"{CORE}?maintenance_id={first}", token=token).status_code == 404
    other = f"{PATH}/tron_payment/maintenance?maintenance_id={second}"
    assert api.send("delete", other, token=token).status_code == 404


def test_what_was_set_for_an_instance_that_is_gone_can_be_ended(api: ApiClient, token: str) -> None:
    gone = "http://gone.test:1"
    Maintenance.objects.create(cluster="blockchain_core", instance=gone, kind="drain", reason="x")

    assert api.send("delete", f"{CORE}?instance={gone}", token=token).status_code == 204


NOT_FOUND = {
    "?instance=http://three.test": (422, "1003"), "?instance=http://two.test": (404, "4001"), "": (404, "4001"),
    "?maintenance_id=x": (422, "1005"),
}  # fmt: skip


def test_what_is_not_there_is_not_ended(api: ApiClient, token: str, twins: Twins) -> None:
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


# By whom, and the record of it


def each_method(api: ApiClient, token: str | None) -> list[Any]:
    return [
        api.send("get", PATH, token=token),
        api.send("post", CORE, NEW, token=token),
        api.send("delete", CORE, token=token),
    ]


@pytest.mark.parametrize("role", ["user", "node_operator"])
def test_others_may_nothing(api: ApiClient, db: None, role: str) -> None:
    close_cluster(cluster="blockchain_core", kind="drain", reason="x", by="operator")
    token = issue_tokens(make_user("somebody", Role(role))).access

    assert [error_code(response) for response in each_method(api, token)] == ["2004"] * 3
    assert Maintenance.objects.not_over().count() == 1


@pytest.mark.parametrize("role", ["admin", "super_admin"])
def test_staff_may_all(api: ApiClient, db: None, role: str) -> None:
    token = issue_tokens(make_user("somebody", Role(role))).access

    assert [response.status_code for response in each_method(api, token)] == [200, 201, 204]


def test_a_key_that_may_read_may_not_close(api: ApiClient, admin: User) -> None:
    reads = {"X-API-Key": create_api_key(admin, name="reads", permissions=["admin:read"])[1]}

    assert api.send("get", PATH, headers=reads).status_code == 200
    assert error_code(api.send("post", CORE, NEW, headers=reads)) == "2004"
    assert error_code(api.send("delete", CORE, headers=reads)) == "2004"


def test_nobody_may_without_signing_in(api: ApiClient, db: None) -> None:
    assert [error_code(response) for response in each_method(api, None)] == ["2001"] * 3


def test_what_operators_do_is_audited_and_what_was_refused_is_not(api: ApiClient, token: str, admin: User) -> None:
    api.send("post", CORE, NEW | {"kind": "evil"}, token=token)
    api.send("delete", CORE, token=token)
    api.send("post", CORE, NEW, token=token)
    api.send("delete", CORE, token=token)

    events = AuditEvent.objects.filter(type__startswith="cluster.").order_by("created_at")
    assert [(event.type, event.actor) for event in events] == [
        ("cluster.closed", str(admin.pk)), ("cluster.opened", str(admin.pk)),
    ]  # fmt: skip


def test_this_worker_follows_at_once(api: ApiClient, token: str, twins: Twins) -> None:
    api.send("post", CORE, NEW, token=token)
    assert is_closed("blockchain_core", twins[0])

    api.send("delete", CORE, token=token)
    assert closures_cache.current.closed == {}
