"""The operator pages for manifests."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from accounts.tests.operators import signed_in, user_page
from sessions_api.manifests import make_manifest
from sessions_api.models import Manifest
from sessions_api.tests.scenarios import new_session, record_chunks

LIST = "/admin/sessions_api/manifest/"


@pytest.fixture
def page(super_admin: User) -> Client:
    """The browser of a super admin."""
    return signed_in(super_admin)


def made(user: User, **facts: Any) -> Manifest:
    """Return the manifest of a session of three chunks."""
    session = new_session(user)
    record_chunks(session, 10, 20, 30)
    session.status, session.active_slot = "completed", None
    session.save()
    manifest = make_manifest(session)
    Manifest.objects.filter(pk=manifest.pk).update(**facts)
    return manifest


def found(page: Client, query: str = "") -> set[Manifest]:
    """Return the manifests on the list page."""
    response = page.get(f"{LIST}?{query}")
    assert response.status_code == 200
    return set(response.context["cl"].result_list)


def test_the_list_shows_owner_size_and_anchoring(page: Client, owner: User) -> None:
    manifest = made(owner, anchor_status="failed")

    text = page.get(LIST).content.decode().replace("\xa0", " ")
    for shown in (str(manifest.pk), user_page(owner), owner.email, "60 bytes", "Failed"):
        assert shown in text


def test_the_columns_of_the_state_come_before_the_size(page: Client, owner: User) -> None:
    made(owner)

    text = page.get(LIST).content.decode()
    columns = [text.index(f"column-{name}") for name in ("owner", "anchoring", "validation", "chunks", "size")]
    assert columns == sorted(columns)


def test_the_list_uses_no_joins(page: Client, owner: User, outsider: User) -> None:
    made(owner)
    made(outsider)

    with CaptureQueriesContext(connection) as captured:
        assert len(found(page)) == 2
    asked = [query["sql"] for query in captured if "sessions_api_manifest" in query["sql"]]
    assert asked
    assert not [sql for sql in asked if "JOIN" in sql or "$lookup" in sql]


def test_manifests_are_found_by_user_and_id_and_filtered(page: Client, owner: User, outsider: User) -> None:
    mine, other = made(owner), made(outsider, anchor_status="failed", validation_status="invalid")

    for query, manifests in {
        f"q={mine.pk}": {mine}, f"q={mine.session_id}": {mine}, f"q={owner.pk}": {mine}, "q=Owner@example.org": {mine},
        "q=nobody": set(), "q=%": set(), "anchor_status__exact=failed": {other}, "o=7": {mine, other},
        "validation_status__exact=invalid": {other}, f"user__user_id__exact={outsider.pk}": {other},
    }.items():  # fmt: skip
        assert found(page, query) == manifests, query


def test_a_manifest_links_to_its_session_user_and_events_and_back(page: Client, owner: User) -> None:
    manifest = made(owner, anchor_error="<b>no</b>")
    own, session = f"{LIST}{manifest.pk}/change/", f"/admin/sessions_api/session/{manifest.session_id}/change/"

    text = page.get(own).content.decode()
    for shown in (session, user_page(owner), f"/admin/audit/auditevent/?q={manifest.pk}", manifest.merkle_root):
        assert shown in text
    assert "<b>no</b>" not in text
    assert own in page.get(session).content.decode()
    assert own in page.get(f"/admin/audit/auditevent/?q={manifest.pk}").content.decode()


def test_the_admin_cannot_add_change_or_delete(page: Client, owner: User) -> None:
    manifest = made(owner)

    assert page.get(f"{LIST}add/").status_code == page.get(f"{LIST}{manifest.pk}/delete/").status_code == 403
    assert page.post(f"{LIST}{manifest.pk}/change/", {"metadata": "{}"}).status_code == 403


def test_users_who_are_not_staff_are_sent_to_the_login(owner: User) -> None:
    assert signed_in(owner).get(LIST).status_code == 302
