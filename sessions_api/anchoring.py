"""Anchoring: storing a manifest's Merkle root on the blockchain. Each step is safe to repeat after any failure.

    none, failed ──▶ pending ──▶ confirmed
                        └──────▶ failed

Each attempt has its own Idempotency-Key: as long as it is pending, every repetition sends the same key.
"""

import re
from typing import Any
from urllib.parse import quote

from django.db.models import F

from lucid_gateway.audit.events import Who, changed, record
from lucid_gateway.kernel.clock import now_ms
from lucid_gateway.policy.errors import BlockchainUnavailable, GatewayError, OperationNotAllowed
from proxy.choosing.closures import refuse_if_closed
from proxy.connection.headers import Identity
from proxy.forwarding.calls import CallAnswer, call
from sessions_api.manifests import reload_manifest
from sessions_api.models import Manifest

CLUSTER = "blockchain_core"
TRANSACTIONS = "/api/v1/transactions"
# The transaction is in progress under this key, or the core is busy: the attempt may still succeed.
OUTCOME_UNKNOWN = (408, 409, 425, 429)
TRANSACTION_ID = re.compile(r"[!-~]{1,128}")
MAX_HEIGHT = 2**63 - 1  # the largest integer that every database stores
Anchor = Manifest.Anchor


class InvalidManifest(OperationNotAllowed):
    """The last verification found that the chunks do not match the manifest."""

    status, text = 409, "The manifest does not match its chunks"


def anchor(manifest: Manifest, *, caller: Identity, request_id: str, by: Who = None) -> Manifest:
    """Start an attempt to store the root, or check the pending one; return the manifest with the new status.

    `caller` is the owner, also if an operator asks: the same attempt must have one caller. The audit log names the
    operator, `by`.

    Raises BlockchainUnavailable or ClusterInMaintenance if there is no answer; a pending attempt then stays pending.
    Raises InvalidManifest, and NotFound if the session was deleted meanwhile.
    """
    if manifest.anchor_status != Anchor.CONFIRMED:
        if manifest.validation_status != Manifest.Validation.VALID:
            raise InvalidManifest()
        refuse_if_closed(CLUSTER)
        begin_attempt(manifest, by)
        manifest = reload_manifest(manifest)
        if manifest.anchor_status == Anchor.PENDING:
            try:
                apply_answer(manifest, submit_or_query(manifest, caller, request_id), by)
            except GatewayError as error:
                raise BlockchainUnavailable(details={"anchor_status": manifest.anchor_status}) from error
            manifest = reload_manifest(manifest)
    return manifest


def begin_attempt(manifest: Manifest, by: Who) -> None:
    """Begin an attempt unless one is pending; of concurrent requests only one begins."""
    fresh = {"anchor_status": Anchor.PENDING, "anchor_requested_at": now_ms(), "anchor_transaction_id": "",
             "anchor_error": ""}  # fmt: skip
    begun = Manifest.objects.filter(pk=manifest.pk, anchor_status__in=[Anchor.NONE, Anchor.FAILED]).update(**fresh)
    if begun:
        changes = changed({"anchor_status": manifest.anchor_status}, {"anchor_status": str(Anchor.PENDING)})
        record("manifest.anchoring", subject=str(manifest.pk), actor=by or str(manifest.user_id), changes=changes)


def submit_or_query(manifest: Manifest, caller: Identity, request_id: str) -> CallAnswer:
    """Submit the transaction, or query its status once its id is known."""
    if manifest.anchor_transaction_id:
        target = f"{TRANSACTIONS}/{quote(manifest.anchor_transaction_id, safe='')}"
        return call(CLUSTER, "GET", target, caller=caller, request_id=request_id)
    data = {
        "type": "session_anchor",
        "manifest_id": str(manifest.pk),
        "session_id": str(manifest.session_id),
        "merkle_root": manifest.merkle_root,
        "chunk_count": manifest.chunk_count,
    }
    headers = {"idempotency-key": attempt_key(manifest)}
    return call(CLUSTER, "POST", TRANSACTIONS, caller=caller, request_id=request_id, data=data, headers=headers)


def attempt_key(manifest: Manifest) -> str:
    """Return the attempt's Idempotency-Key, which stays the same as long as the attempt is pending."""
    begun = manifest.anchor_requested_at or now_ms()
    return f"{manifest.pk}-{begun:%Y%m%dT%H%M%S%f}"


def apply_answer(manifest: Manifest, answer: CallAnswer, by: Who) -> None:
    """Store the outcome that the core reports; raise BlockchainUnavailable if it reports none yet."""
    if answer.status >= 500 or answer.status in OUTCOME_UNKNOWN:
        raise BlockchainUnavailable(details={"anchor_status": manifest.anchor_status})
    reply: dict[str, Any] = answer.data if isinstance(answer.data, dict) else {}
    transaction = reply.get("transaction_id")
    if not answer.succeeded or not (isinstance(transaction, str) and TRANSACTION_ID.fullmatch(transaction)):
        end_attempt(manifest, Anchor.FAILED, by, anchor_error=f"the blockchain core answered {answer.status}")
    elif reply.get("status") == "confirmed":
        height = reply.get("block_height")
        height = height if type(height) is int and 0 <= height <= MAX_HEIGHT else None
        end_attempt(
            manifest, Anchor.CONFIRMED, by, anchor_transaction_id=transaction, anchor_block_height=height,
            anchored_at=now_ms(),
        )  # fmt: skip
    elif reply.get("status") in ("failed", "rejected"):
        end_attempt(
            manifest, Anchor.FAILED, by, anchor_transaction_id=transaction, anchor_error="the transaction failed"
        )
    else:
        still_pending(manifest).update(anchor_transaction_id=transaction)


def still_pending(manifest: Manifest) -> Any:
    """Return the manifest's row if this attempt is still pending."""
    return Manifest.objects.filter(
        pk=manifest.pk, anchor_status=Anchor.PENDING, anchor_requested_at=manifest.anchor_requested_at
    )


def end_attempt(manifest: Manifest, status: str, by: Who, **facts: Any) -> None:
    """Store the final status of the attempt unless it has one already."""
    now = now_ms()
    if still_pending(manifest).update(anchor_status=status, updated_at=now, version=F("version") + 1, **facts):
        changes = {"anchor_status": [str(Anchor.PENDING), str(status)]}
        actor = by or str(manifest.user_id)
        record(f"manifest.anchor_{status}", subject=str(manifest.pk), actor=actor, changes=changes)
