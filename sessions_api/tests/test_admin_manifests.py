"""The operator pages for manifests."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from accounts.tests.operators import messages_of, prove, signed_in, user_page
from lucid_gateway.audit.models import AuditEvent
from sessions_api import manifests
from sessions_api.manifests import make_manifest
from sessions_api.models import Manifest
from sessions_api.tests.scenarios import new_session, record_chunks
from sessions_api.tests.test_anchoring import answers, chain
from testing.http.cluster import RawCluster

__all__ = ["chain"]  # a fixture

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


def test_a_row_has_the_buttons_of_its_page(page: Client, owner: User) -> None:
    manifest = made(owner)

    text = page.get(LIST).content.decode()
    for name in ("verify", "anchor"):
        assert f'<a href="{LIST}{manifest.pk}/{name}/" class="button small">{name.capitalize()}…</a>' in text


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

    for query, rows in {
        f"q={mine.pk}": {mine}, f"q={mine.session_id}": {mine}, f"q={owner.pk}": {mine}, "q=Owner@example.org": {mine},
        "q=nobody": set(), "q=%": set(), "anchor_status__exact=failed": {other}, "o=7": {mine, other},
        "validation_status__exact=invalid": {other}, f"user__user_id__exact={outsider.pk}": {other},
    }.items():  # fmt: skip
        assert found(page, query) == rows, query


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


# Verification, anchoring and proofs


def press(page: Client, manifest: Manifest, step: str, **form: str) -> Any:
    """Press a button of the manifest's page; with `_confirmed` the confirmation, too."""
    return page.post(f"{LIST}{manifest.pk}/{step}/", form, follow=True)


def test_verifying_asks_first_and_names_the_operator(page: Client, owner: User, super_admin: User) -> None:
    manifest = made(owner)

    assert "Verify the manifest" in press(page, manifest, "verify").content.decode()
    assert not AuditEvent.objects.filter(type="manifest.verified").exists()
    assert messages_of(press(page, manifest, "verify", _confirmed="yes")) == ["Every chunk matches the manifest."]
    event = AuditEvent.objects.get(type="manifest.verified")
    assert (event.actor, event.subject, event.details["valid"]) == (str(super_admin.pk), str(manifest.pk), True)


def test_a_damaged_recording_is_found_and_the_page_says_what_is_wrong(page: Client, owner: User) -> None:
    manifest = made(owner)
    manifest.session.chunks.filter(index=1).delete()

    response = press(page, manifest, "verify", _confirmed="yes")
    assert messages_of(response) == ["The chunks do not match the manifest."]
    text = response.content.decode()
    assert "The recorded chunks do not match this manifest." in text
    assert "the indexes of the chunks have gaps" in text
    assert "there are 2 chunks instead of 3" in text


def test_a_long_session_is_verified_by_the_command(page: Client, owner: User) -> None:
    manifest = made(owner, chunk_count=100_001)

    (text,) = messages_of(press(page, manifest, "verify", _confirmed="yes"))
    assert f"verify_manifest {manifest.pk}" in text
    assert not AuditEvent.objects.filter(type="manifest.verified").exists()


def test_anchoring_asks_first_and_is_done_for_the_owner_by_the_operator(
    page: Client, owner: User, super_admin: User, chain: RawCluster
) -> None:
    manifest = made(owner)
    answers(chain, 200, transaction_id="ab" * 32, status="confirmed", block_height=7)

    assert "This cannot be undone." in press(page, manifest, "anchor").content.decode()
    assert chain.requests == []
    assert messages_of(press(page, manifest, "anchor", _confirmed="yes")) == [
        "The blockchain holds its Merkle root in block 7."
    ]
    assert str(owner.pk) in dict(chain.request.fields).values()
    events = AuditEvent.objects.filter(type__startswith="manifest.anchor").order_by("created_at")
    assert [(event.type, event.actor) for event in events] == [
        ("manifest.anchoring", str(super_admin.pk)), ("manifest.anchor_confirmed", str(super_admin.pk)),
    ]  # fmt: skip
    assert "/anchor/" not in page.get(f"{LIST}{manifest.pk}/change/").content.decode()


def test_a_failed_anchor_and_an_unreachable_chain_are_messages(page: Client, owner: User, chain: RawCluster) -> None:
    manifest = made(owner)
    answers(chain, 500)
    (unknown,) = messages_of(press(page, manifest, "anchor", _confirmed="yes"))
    answers(chain, 422)
    (failed,) = messages_of(press(page, manifest, "anchor", _confirmed="yes"))

    assert "unavailable" in unknown.lower()
    assert failed == "The last attempt to anchor it failed: the blockchain core answered 422."


def test_an_invalid_manifest_is_not_anchored(page: Client, owner: User, chain: RawCluster) -> None:
    manifest = made(owner, validation_status="invalid")

    assert messages_of(press(page, manifest, "anchor", _confirmed="yes")) == ["The manifest does not match its chunks."]
    assert chain.requests == []


def test_a_chunk_is_proved_by_its_index(page: Client, owner: User) -> None:
    manifest = made(owner)
    text = page.get(f"{LIST}{manifest.pk}/change/?proof=2").content.decode()

    assert "The proof leads from chunk 2 to the Merkle root of this manifest." in text
    assert manifests.prove(manifest, 2).path[0].hex() in text
    for index, sentence in {"3": "This manifest has no chunk 3.", "x": "The index must be a whole number."}.items():
        assert sentence in page.get(f"{LIST}{manifest.pk}/change/?proof={index}").content.decode()


def test_a_proof_that_does_not_lead_to_the_root_is_shown_so(page: Client, owner: User) -> None:
    manifest = made(owner, merkle_root="00" * 32)

    text = page.get(f"{LIST}{manifest.pk}/change/?proof=0").content.decode()
    assert "The proof of chunk 0 does not lead to the Merkle root of this manifest." in text


def test_the_names_of_sessions_take_one_query(page: Client, owner: User) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            found(page)
        return len(captured)

    made(owner)
    queries()
    few = queries()
    made(owner)
    made(owner)
    assert queries() == few
    assert "A session" in page.get(LIST).content.decode()


@pytest.mark.parametrize("step", ["verify", "anchor"])
def test_others_cannot_use_the_buttons(owner: User, step: str) -> None:
    manifest = made(owner)

    assert signed_in(owner).post(f"{LIST}{manifest.pk}/{step}/", {"_confirmed": "yes"}).status_code == 302
    assert not AuditEvent.objects.filter(type__in=["manifest.verified", "manifest.anchoring"]).exists()


def test_an_admin_does_not_anchor_the_manifests_of_other_staff(
    admin: User, super_admin: User, chain: RawCluster
) -> None:
    page, other, own = signed_in(admin), made(super_admin), made(admin)

    assert press(page, other, "anchor", _confirmed="yes").status_code == 403
    assert "/anchor/" not in page.get(f"{LIST}{other.pk}/change/").content.decode()
    assert "/anchor/" in page.get(f"{LIST}{own.pk}/change/").content.decode()
    assert chain.requests == []
    other.refresh_from_db()
    assert other.anchor_status == "none"


def test_anchoring_needs_a_recent_proof(page: Client, owner: User, chain: RawCluster) -> None:
    manifest = made(owner)
    prove(page, seconds_ago=3_600)

    assert set(press(page, manifest, "anchor", _confirmed="yes").context["form"].errors) == {"proof"}
    assert chain.requests == []
