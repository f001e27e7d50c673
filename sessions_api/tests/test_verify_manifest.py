"""manage.py verify_manifest: root and proofs again, from the chunks that are there."""

import json
import uuid
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from lucid_gateway.audit.models import AuditEvent
from sessions_api import manifests
from sessions_api.models import Chunk, Manifest, Session
from sessions_api.tests.conftest import a_session, add_chunk


@pytest.fixture
def manifest(owner: User) -> Manifest:
    """The manifest of a session of five chunks."""
    return manifests.make_manifest(a_session(owner, 1, 2, 3, 4, 5))


def verify(manifest: Manifest, *options: str) -> tuple[int, str]:
    """Return exit status and output."""
    out = StringIO()
    try:
        call_command("verify_manifest", str(manifest.pk), *options, stdout=out)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def test_a_manifest_that_is_right_is_valid(manifest: Manifest) -> None:
    assert verify(manifest) == (0, f"valid: 5 chunks, root {manifest.merkle_root}\n")


def test_what_was_found_is_among_the_events_of_the_manifest(manifest: Manifest) -> None:
    verify(manifest)
    event = AuditEvent.objects.get(type="manifest.verified")
    assert (event.subject, event.actor, event.details["valid"]) == (str(manifest.pk), "manage.py", True)


@pytest.mark.parametrize("damaged", ["0" * 64, "0" * 63, "", "no hash"])
def test_a_chunk_that_was_changed_is_found_out(manifest: Manifest, damaged: str) -> None:
    Chunk.objects.filter(session=manifest.session, index=3).update(hash=damaged)
    status, printed = verify(manifest)
    assert (status, "INVALID" in printed, "instead of" in printed) == (1, True, True)
    manifest.refresh_from_db()
    assert manifest.validation_status == "invalid"


def test_a_chunk_that_is_gone_or_was_added_is_found_out(manifest: Manifest) -> None:
    Chunk.objects.filter(session=manifest.session, index=2).delete()
    add_chunk(manifest.session, 5)
    status, printed = verify(manifest, "--json")
    found = json.loads(printed)
    assert (status, found["valid"]) == (1, False)
    assert any("gaps" in problem for problem in found["problems"])


def test_a_session_that_was_not_told_of_its_manifest_is_told(manifest: Manifest) -> None:
    session = Session.objects.filter(pk=manifest.session_id)
    session.update(manifest_id=None, merkle_root="")  # whoever made it was killed
    assert verify(manifest)[0] == 0
    assert session.get().manifest_id == manifest.pk


def test_what_is_mended_is_valid_again(manifest: Manifest) -> None:
    Manifest.objects.filter(pk=manifest.pk).update(validation_status="invalid")
    assert json.loads(verify(manifest, "--json")[1])["valid"] is True
    manifest.refresh_from_db()
    assert manifest.validation_status == "valid"


@pytest.mark.django_db
@pytest.mark.parametrize("name", [str(uuid.UUID(int=7)), "nonsense"])
def test_a_manifest_that_is_not_there_is_said_so(name: str) -> None:
    with pytest.raises(CommandError, match="no manifest"):
        call_command("verify_manifest", name)
