"""What the page of one manifest shows."""

from typing import Any

from django.urls import reverse

from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.errors import NotFound
from sessions_api.admin.shapes import as_json
from sessions_api.manifests import InclusionProof, prove
from sessions_api.merkle import leaf_hash, root_from_path
from sessions_api.models import Manifest

Anchor, Validation = Manifest.Anchor, Manifest.Validation
# A proof reads every chunk, and a verification computes every proof: of longer sessions `manage.py` does it.
MAX_CHUNKS = 100_000
VALIDATION = {Validation.VALID: ("ok", "Valid"), Validation.INVALID: ("bad", "Invalid")}
ANCHORING = {
    Anchor.NONE: ("", "Not anchored"), Anchor.PENDING: ("warn", "Anchoring"), Anchor.CONFIRMED: ("ok", "Anchored"),
    Anchor.FAILED: ("bad", "Anchoring failed"),
}  # fmt: skip


def facts_of(manifest: Manifest, index: str) -> dict[str, Any]:
    """Return the context of the page, with the proof of a chunk if `index` names one."""
    is_invalid = manifest.validation_status == Validation.INVALID
    return {
        "validation": VALIDATION[Validation(manifest.validation_status)],
        "anchoring": ANCHORING[Anchor(manifest.anchor_status)],
        "verified": verified(manifest),
        "anchored": anchored(manifest),
        "problems": problems_of(manifest) if is_invalid else [],
        "last_index": max(0, manifest.chunk_count - 1),
        "metadata": as_json(manifest.metadata),
        "proof_index": index[:10],
        **(proof_of(manifest, index) if index else {}),
    }


def verified(manifest: Manifest) -> str:
    if manifest.validation_status == Validation.VALID:
        return "The recorded chunks matched this manifest when they were last checked."
    return "The recorded chunks do not match this manifest. The recording is damaged, or it was changed."


def anchored(manifest: Manifest) -> str:
    """Return a sentence about the state of anchoring."""
    if manifest.anchor_status == Anchor.CONFIRMED:
        block = "" if manifest.anchor_block_height is None else f" in block {manifest.anchor_block_height:,}"
        return f"The blockchain holds its Merkle root{block}."
    if manifest.anchor_status == Anchor.PENDING:
        return "Its Merkle root was sent to the blockchain, which has not confirmed it yet."
    if manifest.anchor_status == Anchor.FAILED:
        return f"The last attempt to anchor it failed: {manifest.anchor_error or 'no reason was given'}."
    return "It is not anchored: the blockchain does not hold its Merkle root."


def problems_of(manifest: Manifest) -> list[str]:
    """Return what the last verification found, as the audit log has it."""
    events = AuditEvent.objects.filter(type="manifest.verified", subject=str(manifest.pk)).order_by("-created_at")
    details = events.values_list("details", flat=True).first() or {}
    return [str(problem) for problem in details.get("problems", [])]


def steps(manifest: Manifest, *, may_anchor: bool) -> Any:
    """Yield the text, the address and the importance of each button; `may_anchor` says what the operator may do."""
    verify = reverse("admin:sessions_api_manifest_verify", args=[manifest.pk])
    anchor = reverse("admin:sessions_api_manifest_anchor", args=[manifest.pk])
    yield "Verify…", verify, manifest.validation_status == Validation.INVALID
    if may_anchor and manifest.anchor_status != Anchor.CONFIRMED:
        yield ("Check anchor…" if manifest.anchor_status == Anchor.PENDING else "Anchor…"), anchor, True


def proof_of(manifest: Manifest, text: str) -> dict[str, Any]:
    """Return the proof of the chunk with that index, or why there is none."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        return {"proof_error": "The index must be a whole number."}
    try:
        found = prove(manifest, int(text))
    except NotFound:
        return {"proof_error": f"This manifest has no chunk {int(text):,}."}
    return {
        "proof": {
            "index": found.index,
            "chunk_hash": found.chunk_hash.hex(),
            "leaf_hash": leaf_hash(found.chunk_hash).hex(),
            "path": [one.hex() for one in found.path],
            "leads": leads_to_root(found),
        }
    }


def leads_to_root(proof: InclusionProof) -> bool:
    try:
        return root_from_path(proof.chunk_hash, proof.index, proof.tree_size, proof.path) == proof.root
    except ValueError:
        return False
