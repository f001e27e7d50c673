"""Making manifests, proving chunks by them, and verifying them again."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from django.db import IntegrityError, transaction
from django.db.models import F

from accounts.idempotency import made_once
from lucid_gateway.audit.events import record
from lucid_gateway.policy.errors import AlreadyExists, NotFound, PreconditionFailed, WrongSessionState
from sessions_api import merkle
from sessions_api.models import Manifest, Session
from sessions_api.moments import moment
from sessions_api.turns import in_turns

NAMED_AT_MOST = 100
BATCH = 2_000


@dataclass(frozen=True)
class InclusionProof:
    """That a chunk is part of a manifest: its digest, its place in the tree, and the path to the root."""

    index: int
    chunk_hash: bytes
    tree_size: int
    root: bytes
    path: list[bytes]


@dataclass(frozen=True)
class Verification:
    """What a verification found: the chunks that are there now, and the root that follows from them."""

    chunks: int
    total_size: int
    merkle_root: str
    problems: list[str]

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def make_manifest(session: Session, *, manifest_id: uuid.UUID | None = None) -> Manifest:
    """Make the one manifest of a completed session, under that id once; raise WrongSessionState, AlreadyExists, or
    NotFound for a session that is deleted meanwhile.
    """
    insert = partial(insert_manifest, session, manifest_id=manifest_id or uuid.uuid4())
    manifest = made_once(Manifest.objects.filter(session=session), manifest_id, insert)
    if manifest_id is not None:
        link(manifest)  # an attempt that died may not have come that far
    return manifest


def insert_manifest(session: Session, *, manifest_id: uuid.UUID) -> Manifest:
    """Insert the manifest and let the session name it; raise as `make_manifest` does."""
    if session.status != Session.Status.COMPLETED:
        raise WrongSessionState("Only a completed session has a manifest", details={"status": session.status})
    refuse_second(session)
    refuse_while_uploading(session)
    sizes = refuse_gaps(session)
    root, now = merkle.tree_hash(digests(session)).hex(), moment()
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
        raise NotFound() from error  # on SQLite
    link(manifest)
    if not Session.objects.undeleted().filter(pk=session.pk).exists():
        Manifest.objects.filter(pk=manifest.pk).delete()  # the deletion may have been past it
        raise NotFound()
    record("manifest.made", subject=str(manifest.pk), actor=str(session.user_id), session=str(session.pk), root=root)
    return manifest


def refuse_second(session: Session) -> None:
    """Raise AlreadyExists if the session has a manifest."""
    if there := Manifest.objects.filter(session=session).first():
        link(there)  # whoever made it may not have come that far
        raise AlreadyExists(details={"manifest_id": str(there.pk)})


def link(manifest: Manifest) -> None:
    """Let the session name its manifest unless it does; safe to repeat."""
    Session.objects.filter(pk=manifest.session_id, manifest_id=None).update(
        manifest_id=manifest.pk, merkle_root=manifest.merkle_root, updated_at=moment(), version=F("version") + 1
    )


def refuse_while_uploading(session: Session) -> None:
    """Raise WrongSessionState while an upload is under way; one that died loses its row, without which it cannot be
    recorded any more, should it come back.
    """
    rows = session.chunks.uploading()
    rows.abandoned().delete()
    if under_way := rows.count():
        details = {"status": session.status, "uploads_under_way": under_way}
        raise WrongSessionState("Uploads are under way", details=details)


def refuse_gaps(session: Session) -> list[int]:
    """Return the sizes of the chunks in index order; raise WrongSessionState, with the missing indexes, unless they are
    all there from 0 on.
    """
    rows = session.chunks.recorded().order_by("index").values_list("index", "size")
    sizes: list[int] = []
    missing: list[int] = []
    count = expected = 0
    for index, size in rows.iterator(BATCH):
        count += index - expected
        missing += range(expected, min(index, expected + NAMED_AT_MOST - len(missing)))
        expected = index + 1
        sizes.append(size)
    if missing:
        details = {"status": session.status, "missing": missing, "missing_count": count}
        raise WrongSessionState("Chunks are missing", details=details)
    if not sizes:
        raise WrongSessionState("The session has no chunks", details={"status": session.status, "missing": []})
    return sizes


def digests(session: Session) -> Iterator[bytes]:
    """Yield the digests of the recorded chunks in index order; there may be a million, so others get turns."""
    rows = session.chunks.recorded().order_by("index").values_list("hash", flat=True)
    return (bytes.fromhex(found) for found in in_turns(rows.iterator(BATCH), BATCH))


def prove(manifest: Manifest, index: int) -> InclusionProof:
    """Return the proof for the chunk at the index; raise NotFound if there is none."""
    size = manifest.chunk_count
    if not 0 <= index < size:
        raise NotFound(details={"chunk_count": size})
    chunk_hash, path = merkle.audit_path(digests(manifest.session), index, size)
    return InclusionProof(index, chunk_hash, size, bytes.fromhex(manifest.merkle_root), path)


def verify(manifest: Manifest) -> Iterator[int | Verification]:
    """Compute root and proofs again from the chunks that are there; yield the number of proofs checked so far, and at
    last the verdict, which is kept.
    """
    link(manifest)  # whoever made it may not have come that far
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
    keep(manifest, verdict)
    yield verdict


def digest_of(text: str) -> bytes:
    """Return the digest in a chunk's hash; nothing for what is none, with which no root is right."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def problems_of(manifest: Manifest, session: Session, facts: list[tuple[int, int]], root: str) -> list[str]:
    """Return a line for each thing that is not as the manifest says."""
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
        found.append("the session names another root")
    return found


def keep(manifest: Manifest, verdict: Verification) -> None:
    """Keep what a verification found."""
    status = Manifest.Validation.VALID if verdict.valid else Manifest.Validation.INVALID
    Manifest.objects.filter(pk=manifest.pk).update(validation_status=status, validated_at=moment())
    problems = verdict.problems[:10]
    record("manifest.verified", subject=str(manifest.pk), valid=verdict.valid, problems=problems)


def update_metadata(manifest: Manifest, *, version: int | None, metadata: dict[str, object]) -> Manifest:
    """Replace what the owner keeps beside the manifest, in its given version or in any; return it as it is then.

    Raises PreconditionFailed if somebody else was faster, or NotFound.
    """
    rows = Manifest.objects.filter(pk=manifest.pk)
    of_version = rows if version is None else rows.filter(version=version)
    if not of_version.update(metadata=metadata, updated_at=moment(), version=F("version") + 1) and rows.exists():
        raise PreconditionFailed()
    return read_again(manifest)


def read_again(manifest: Manifest) -> Manifest:
    """Return the manifest as it is now; raise NotFound if its session was deleted meanwhile."""
    found = Manifest.objects.select_related("session").filter(pk=manifest.pk).first()
    if found is None or found.session.is_deleted:
        raise NotFound()
    return found
