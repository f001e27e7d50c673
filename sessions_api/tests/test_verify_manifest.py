"""manage.py verify_manifest recomputes the root and the proofs from the recorded chunks."""

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


def test_a_correct_manifest_is_valid(manifest: Manifest) -> None:
    assert verify(manifest) == (0, f"valid: 5 chunks, root {manifest.merkle_root}\n")


def test_the_result_is_in_the_audit_log(manifest: Manifest) -> None:
    verify(manifest)
    event = AuditEvent.objects.get(type="manifest.verified")
    assert (event.subject, event.actor, event.details["valid"]) == (str(manifest.pk), "manage.py", True)


@pytest.mark.parametrize("damaged", ["0" * 64, "0" * 63, "", "no hash"])
def test_a_changed_chunk_is_detected(manifest: Manifest, damaged: str) -> None:
    Chunk.objects.filter(session=manifest.session, index=3).update(hash=damaged)
    status, printed = verify(manifest)
    assert (status, "INVALID" in printed, "instead of" in printed) == (1, True, True)
    manifest.refresh_from_db()
    assert manifest.validation_status == "invalid"


def test_a_missing_or_added_chunk_is_detected(manifest: Manifest) -> None:
    Chunk.objects.filter(session=manifest.session, index=2).delete()
    add_chunk(manifest.session, 5)
    status, printed = verify(manifest, "--json")
    found = json.loads(printed)
    assert (status, found["valid"]) == (1, False)
    assert any("gaps" in problem for problem in found["problems"])


def test_verification_links_a_session_without_its_manifest(manifest: Manifest) -> None:
    session = Session.objects.filter(pk=manifest.session_id)
    session.update(manifest_id=None, merkle_root="")  # as if the creating worker had been killed
    assert verify(manifest)[0] == 0
    assert session.get().manifest_id == manifest.pk


def test_a_repaired_manifest_is_valid_again(manifest: Manifest) -> None:
    Manifest.objects.filter(pk=manifest.pk).update(validation_status="invalid")
    assert json.loads(verify(manifest, "--json")[1])["valid"] is True
    manifest.refresh_from_db()
    assert manifest.validation_status == "valid"


@pytest.mark.django_db
@pytest.mark.parametrize("name", [str(uuid.UUID(int=7)), "nonsense"])
def test_an_unknown_manifest_is_an_error(name: str) -> None:
    with pytest.raises(CommandError, match="no manifest"):
        call_command("verify_manifest", name)
