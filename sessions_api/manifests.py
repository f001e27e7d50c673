"""Creating manifests, proving chunks with them, and verifying them."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from django.db import IntegrityError, transaction
from django.db.models import F

from accounts.idempotency import create_once
from lucid_gateway.audit.events import Who, changed, record
from lucid_gateway.kernel.clock import now_ms
from lucid_gateway.policy.errors import AlreadyExists, NotFound, PreconditionFailed, WrongSessionState
from sessions_api import merkle
from sessions_api.cooperation import letting_others_run
from sessions_api.models import Manifest, Session

MAX_MISSING_LISTED = 100
BATCH = 2_000


@dataclass(frozen=True)
class InclusionProof:
    """The proof that a chunk is part of a manifest: its digest, its index in the tree, and the path to the root."""

    index: int
    chunk_hash: bytes
    tree_size: int
    root: bytes
    path: list[bytes]


@dataclass(frozen=True)
class Verification:
    """The result of a verification: the totals and the root of the recorded chunks, and a line for each problem."""

    chunks: int
    total_size: int
    merkle_root: str
    problems: list[str]

    @property
    def valid(self) -> bool:
        return not self.problems


def make_manifest(session: Session, *, manifest_id: uuid.UUID | None = None) -> Manifest:
    """Create the only manifest of a completed session, once per `manifest_id`.

    Raises WrongSessionState, AlreadyExists, or NotFound if the session is deleted meanwhile.
    """
    insert = partial(insert_manifest, session, manifest_id=manifest_id or uuid.uuid4())
    manifest = create_once(Manifest.objects.filter(session=session), manifest_id, insert)
    if manifest_id is not None:
        link(manifest)  # an earlier attempt may have died before this step
    return manifest


def insert_manifest(session: Session, *, manifest_id: uuid.UUID) -> Manifest:
    """Insert the manifest and link the session to it; raise as `make_manifest` does."""
    if session.status != Session.Status.COMPLETED:
        raise WrongSessionState("Only a completed session can have a manifest", details={"status": session.status})
    refuse_second(session)
    refuse_while_uploading(session)
    sizes = sizes_without_gaps(session)
    root, now = merkle.tree_hash(digests(session)).hex(), now_ms()
    try:
        with transaction.atomic():
            manifest = Manifest.objects.create(
                manifest_id=manifest_id,
                session=session,
                user_id=session.user_id,
                merkle_root=root,
                chunk_count=len(sizes),
                total_size=sum(sizes),
                created_at=now,
                updated_at=now,
                validated_at=now,
            )
    except IntegrityError as error:
        refuse_second(session)
        raise NotFound() from error  # SQLite found the session deleted
    link(manifest)
    if not Session.objects.undeleted().filter(pk=session.pk).exists():
        Manifest.objects.filter(pk=manifest.pk).delete()  # the session's deletion may have missed it
        raise NotFound()
    record("manifest.made", subject=str(manifest.pk), actor=str(session.user_id), session=str(session.pk), root=root)
    return manifest


def refuse_second(session: Session) -> None:
    """Raise AlreadyExists if the session has a manifest."""
    if existing := Manifest.objects.filter(session=session).first():
        link(existing)  # its request may have died before this step
        raise AlreadyExists(details={"manifest_id": str(existing.pk)})


def link(manifest: Manifest) -> None:
    """Store the manifest's id and root in its session, unless they are there; safe to repeat."""
    Session.objects.filter(pk=manifest.session_id, manifest_id=None).update(
        manifest_id=manifest.pk, merkle_root=manifest.merkle_root, updated_at=now_ms(), version=F("version") + 1
    )


def refuse_while_uploading(session: Session) -> None:
    """Raise WrongSessionState while an upload is in progress. The rows of abandoned uploads are deleted, after which a
    late upload cannot record its chunk.
    """
    rows = session.chunks.uploading()
    rows.abandoned().delete()
    if in_progress := rows.count():
        details = {"status": session.status, "uploads_under_way": in_progress}
        raise WrongSessionState("Uploads are in progress", details=details)


def sizes_without_gaps(session: Session) -> list[int]:
    """Return the sizes of the chunks in index order; raise WrongSessionState with the missing indexes unless the
    indexes run from 0 without a gap.
    """
    rows = session.chunks.recorded().order_by("index").values_list("index", "size")
    sizes: list[int] = []
    missing: list[int] = []
    count = expected = 0
    for index, size in rows.iterator(BATCH):
        count += index - expected
        missing += range(expected, min(index, expected + MAX_MISSING_LISTED - len(missing)))
        expected = index + 1
        sizes.append(size)
    if missing:
        details = {"status": session.status, "missing": missing, "missing_count": count}
        raise WrongSessionState("Chunks are missing", details=details)
    if not sizes:
        raise WrongSessionState("The session has no chunks", details={"status": session.status, "missing": []})
    return sizes


def digests(session: Session) -> Iterator[bytes]:
    """Yield the digests of the recorded chunks, up to a million, in index order; let other requests run in between."""
    rows = session.chunks.recorded().order_by("index").values_list("hash", flat=True)
    return (bytes.fromhex(found) for found in letting_others_run(rows.iterator(BATCH), BATCH))


def prove(manifest: Manifest, index: int) -> InclusionProof:
    """Return the proof for the chunk at the index; raise NotFound if the manifest has no such chunk."""
    size = manifest.chunk_count
    if not 0 <= index < size:
        raise NotFound(details={"chunk_count": size})
    chunk_hash, path = merkle.audit_path(digests(manifest.session), index, size)
    return InclusionProof(index, chunk_hash, size, bytes.fromhex(manifest.merkle_root), path)


def verify(manifest: Manifest, *, by: Who = None) -> Iterator[int | Verification]:
    """Compute the root and all proofs again from the recorded chunks. Yield the number of proofs checked so far, and
    finally the verdict, after storing it. `by` is the operator whom the audit log names.
    """
    link(manifest)  # the request that created it may have died before this step
    session = Session.objects.get(pk=manifest.session_id)
    rows = session.chunks.recorded().order_by("index")
    chunks = list(rows.values_list("index", "size", "hash"))
    facts, leaves = [(index, size) for index, size, _ in chunks], [digest_of(text) for *_, text in chunks]
    tree = merkle.Tree(leaves)
    problems = problems_of(manifest, session, facts, tree.root.hex())
    for index, leaf in enumerate(leaves):
        if merkle.root_from_path(leaf, index, len(leaves), tree.audit_path(index)) != tree.root:
            problems.append(f"the proof of chunk {index} does not lead to the root")
        yield index + 1
    verdict = Verification(len(leaves), sum(size for _, size in facts), tree.root.hex(), problems)
    store_verdict(manifest, verdict, by)
    yield verdict


def digest_of(text: str) -> bytes:
    """Return the digest from a chunk's hash in hex; empty for an invalid one, so that the root cannot match."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def problems_of(manifest: Manifest, session: Session, facts: list[tuple[int, int]], root: str) -> list[str]:
    """Return a line for each difference between the manifest and the recorded chunks or the session."""
    found = []
    if [index for index, _ in facts] != list(range(len(facts))):
        found.append("the indexes of the chunks have gaps")
    if len(facts) != manifest.chunk_count:
        found.append(f"there are {len(facts)} chunks instead of {manifest.chunk_count}")
    if (total := sum(size for _, size in facts)) != manifest.total_size:
        found.append(f"the chunks have {total} bytes instead of {manifest.total_size}")
    if root != manifest.merkle_root:
        found.append(f"the root is {root} instead of {manifest.merkle_root}")
    if session.merkle_root != manifest.merkle_root:
        found.append("the session has another root")
    return found


def store_verdict(manifest: Manifest, verdict: Verification, by: Who) -> None:
    status = Manifest.Validation.VALID if verdict.valid else Manifest.Validation.INVALID
    Manifest.objects.filter(pk=manifest.pk).update(validation_status=status, validated_at=now_ms())
    problems = verdict.problems[:10]
    changes = changed({"validation_status": manifest.validation_status}, {"validation_status": str(status)})
    record(
        "manifest.verified", subject=str(manifest.pk), actor=by, changes=changes, valid=verdict.valid, problems=problems
    )


def update_metadata(manifest: Manifest, *, version: int | None, metadata: dict[str, object]) -> Manifest:
    """Replace the owner's metadata if the manifest has the given version (None: any); return the changed manifest.

    Raises PreconditionFailed if another request changed it first, or NotFound.
    """
    rows = Manifest.objects.filter(pk=manifest.pk)
    of_version = rows if version is None else rows.filter(version=version)
    if not of_version.update(metadata=metadata, updated_at=now_ms(), version=F("version") + 1) and rows.exists():
        raise PreconditionFailed()
    return reload_manifest(manifest)


def reload_manifest(manifest: Manifest) -> Manifest:
    """Return the manifest from the database; raise NotFound if its session was deleted meanwhile."""
    found = Manifest.objects.select_related("session").filter(pk=manifest.pk).first()
    if found is None or found.session.is_deleted:
        raise NotFound()
    return found
