"""The switch of the page "Routes": which routes the edge serves, and the buttons that take them off it and back."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from accounts.tests.operators import actors_of, browser, messages_of, signed_in
from conftest import make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.console.routes.edge_switch import NO_SUCH_ROUTE
from lucid_gateway.policy.roles import Role
from proxy.models import EdgeExclusion
from proxy.operators.switching import take_off_edge

ROUTES_PAGE, OFF, ON = "/admin/routes/", "/admin/routes/edge/off/", "/admin/routes/edge/on/"
CONFIRMED = {"_confirmed": "yes", "reason": "it answers twice"}
CHUNKS = "/api/v1/sessions/{session_id}/chunks"


def text(page: Client, query: str = "") -> str:
    return " ".join(page.get(f"{ROUTES_PAGE}{query}").content.decode().split())


def states(page: Client) -> dict[str, set[str]]:
    """Return the paths by what the page says of them."""
    found: dict[str, set[str]] = {}
    for row in page.get(ROUTES_PAGE).context["routes"]:
        found.setdefault(row.edge.words, set()).add(row.path)
    return found


def take_off(page: Client, route: str, **form: str) -> Any:
    return page.post(f"{OFF}?route={route}", CONFIRMED | form, follow=True)


def put_back(page: Client, route: str) -> list[str]:
    return messages_of(page.post(ON, {"route": route}, follow=True))


def test_without_an_edge_the_page_says_one_sentence(page: Client) -> None:
    found = text(page)

    assert "No edge is in use: the gateway serves every route." in found
    assert found.lower().count("edge") == 1
    assert {row.edge for row in page.get(ROUTES_PAGE).context["routes"]} == {None}


@pytest.mark.parametrize("route", ["wallets", "all"])
def test_without_an_edge_nothing_can_be_taken_off(page: Client, route: str) -> None:
    assert messages_of(take_off(page, route)) == [NO_SUCH_ROUTE]
    assert put_back(page, route) == [NO_SUCH_ROUTE]
    assert not EdgeExclusion.objects.exists()


@pytest.mark.usefixtures("with_edge")
class TestWithAnEdge:
    def test_the_page_says_of_each_route_where_it_is_served(self, page: Client) -> None:
        take_off_edge(path="wallets", reason="it answers twice", by="ada@example.org")

        found = states(page)
        assert found["gateway only"] == {"/api/v1/wallets"}
        assert found["not for the edge"] == {CHUNKS}
        assert {"/api/v1/wallets/{rest*}", "/api/v1/chain/info"} <= found["at the edge"]
        assert "by ada@example.org: it answers twice" in text(page, "?q=gateway+only")

    def test_a_route_is_taken_off_after_a_question_and_put_back_with_a_click(self, page: Client, admin: User) -> None:
        asked = page.get(f"{OFF}?route=wallets")
        assert "GET HEAD POST PUT PATCH DELETE /api/v1/wallets " in asked.context["warning"]
        assert not EdgeExclusion.objects.exists()

        done = take_off(page, "wallets")
        assert messages_of(done) == ["/api/v1/wallets is served by the gateway only, within two seconds."]
        assert [(row.path, row.reason) for row in EdgeExclusion.objects.all()] == [("wallets", CONFIRMED["reason"])]
        assert put_back(page, "wallets")[0].startswith("/api/v1/wallets is at the edge again")
        assert not EdgeExclusion.objects.exists()
        for kind in ("edge.off", "edge.on"):
            assert actors_of(kind) == [(str(admin.pk), "/api/v1/wallets")]

    def test_without_a_reason_nothing_is_taken_off(self, page: Client) -> None:
        asked = take_off(page, "wallets", reason=" ")

        assert set(asked.context["form"].errors) == {"reason"}
        assert not EdgeExclusion.objects.exists()

    def test_all_routes_are_taken_off_and_put_back(self, page: Client) -> None:
        assert messages_of(take_off(page, "all")) == ["Every route is served by the gateway only, within two seconds."]

        assert states(page).keys() == {"gateway only", "not for the edge"}
        found = text(page)
        assert "Every route is off the edge since" in found
        assert "Take off…" not in found
        assert put_back(page, "all")[0].startswith("Every route is at the edge again")
        assert not EdgeExclusion.objects.exists()

    def test_what_was_done_already_is_said(self, page: Client) -> None:
        take_off(page, "wallets")

        assert messages_of(take_off(page, "wallets")) == ["/api/v1/wallets was off the edge already."]
        put_back(page, "wallets")
        assert put_back(page, "wallets") == ["/api/v1/wallets was not off the edge."]

    @pytest.mark.parametrize("route", ["", "nowhere", "sessions/{session_id}/chunks", "<script>"])
    def test_a_route_that_is_not_for_the_edge_is_refused(self, page: Client, route: str) -> None:
        assert messages_of(take_off(page, route)) == [NO_SUCH_ROUTE]
        assert put_back(page, route) == [NO_SUCH_ROUTE]
        assert not EdgeExclusion.objects.exists()

    @pytest.mark.parametrize("role", ["admin", "super_admin"])
    def test_staff_may(self, db: None, role: str) -> None:
        take_off(signed_in(make_user("operator", Role(role))), "wallets")

        assert EdgeExclusion.objects.count() == 1

    @pytest.mark.parametrize("role", ["anonymous", "user", "node_operator"])
    def test_others_may_not(self, db: None, role: str) -> None:
        visitor = browser() if role == "anonymous" else signed_in(make_user("visitor", Role(role)))
        take_off_edge(path="wallets", reason="r", by="")

        for answer in (
            visitor.get(f"{OFF}?route=all"), visitor.post(f"{OFF}?route=all", CONFIRMED),
            visitor.post(ON, {"route": "wallets"}),
        ):  # fmt: skip
            assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/admin/login/")
        assert [row.path for row in EdgeExclusion.objects.all()] == ["wallets"]

    def test_a_hostile_reason_is_a_text(self, page: Client) -> None:
        take_off(page, "wallets", reason="<script>alert(1)</script>")

        assert "<script>alert" not in text(page)
        assert "&lt;script&gt;alert(1)" in text(page)

    def test_the_audit_log_leads_back_to_the_route(self, page: Client) -> None:
        take_off(page, "wallets")
        event = AuditEvent.objects.get(type="edge.off")

        found = page.get(f"/admin/audit/auditevent/{event.pk}/change/").content.decode()
        assert "/admin/routes/?q=%2Fapi%2Fv1%2Fwallets" in found
