"""Anchoring: the chain is asked to hold a manifest's root. Safe to repeat, whatever went wrong before.

    none, failed ──▶ pending ──▶ confirmed
                        └──────▶ failed

Each attempt has one Idempotency-Key: as long as an attempt is pending it is asked for again under the same key.
"""

import re
from typing import Any
from urllib.parse import quote

from django.db.models import F

from lucid_gateway.audit.events import record
from lucid_gateway.policy.errors import BlockchainUnavailable, GatewayError, OperationNotAllowed
from proxy.choosing.closures import refuse_if_closed
from proxy.connection.headers import Identity
from proxy.forwarding.calls import CallAnswer, call
from sessions_api.manifests import read_again
from sessions_api.models import Manifest
from sessions_api.moments import moment

CLUSTER = "blockchain_core"
TRANSACTIONS = "/api/v1/transactions"
# In progress under this key, or not now: what came of the attempt is not known yet.
NOT_SAID_YET = (408, 409, 425, 429)
TRANSACTION_ID = re.compile(r"[!-~]{1,128}")
HIGHEST = 2**63 - 1  # that every database keeps
Anchor = Manifest.Anchor


class InvalidManifest(OperationNotAllowed):
    """The chunks are not what the manifest says."""

    status, text = 409, "The manifest is invalid"


def anchor(manifest: Manifest, *, caller: Identity, request_id: str) -> Manifest:
    """Ask the chain to hold the root, or what became of it; return the manifest as it is then.

    Raises BlockchainUnavailable or ClusterInMaintenance if the chain could not be asked; what was pending stays so.
    Raises InvalidManifest, and NotFound if the session was deleted meanwhile.
    """
    if manifest.anchor_status != Anchor.CONFIRMED:
        if manifest.validation_status != Manifest.Validation.VALID:
            raise InvalidManifest()
        refuse_if_closed(CLUSTER)
        begin(manifest)
        manifest = read_again(manifest)
        if manifest.anchor_status == Anchor.PENDING:
            try:
                follow(manifest, ask(manifest, caller, request_id))
            except GatewayError as error:
                raise BlockchainUnavailable(details={"anchor_status": manifest.anchor_status}) from error
            manifest = read_again(manifest)
    return manifest


def begin(manifest: Manifest) -> None:
    """Begin an attempt unless one is pending: of requests at once, one does."""
    fresh = {"anchor_status": Anchor.PENDING, "anchor_requested_at": moment(), "anchor_transaction_id": "",
             "anchor_error": ""}  # fmt: skip
    begun = Manifest.objects.filter(pk=manifest.pk, anchor_status__in=[Anchor.NONE, Anchor.FAILED]).update(**fresh)
    if begun:
        record("manifest.anchoring", subject=str(manifest.pk), actor=str(manifest.user_id))


def ask(manifest: Manifest, caller: Identity, request_id: str) -> CallAnswer:
    """Send the transaction, or ask what became of it."""
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
    """Return the key of the attempt: the same for as long as it is pending."""
    begun = manifest.anchor_requested_at or moment()
    return f"{manifest.pk}-{begun:%Y%m%dT%H%M%S%f}"


def follow(manifest: Manifest, answer: CallAnswer) -> None:
    """Keep what the chain says; raise BlockchainUnavailable if it says that it cannot say."""
    if answer.status >= 500 or answer.status in NOT_SAID_YET:
        raise BlockchainUnavailable(details={"anchor_status": manifest.anchor_status})
    told: dict[str, Any] = answer.data if isinstance(answer.data, dict) else {}
    transaction = told.get("transaction_id")
    if not answer.succeeded or not (isinstance(transaction, str) and TRANSACTION_ID.fullmatch(transaction)):
        settle(manifest, Anchor.FAILED, anchor_error=f"the blockchain core answered {answer.status}")
    elif told.get("status") == "confirmed":
        height = told.get("block_height")
        height = height if type(height) is int and 0 <= height <= HIGHEST else None
        settle(
            manifest, Anchor.CONFIRMED, anchor_transaction_id=transaction, anchor_block_height=height,
            anchored_at=moment(),
        )  # fmt: skip
    elif told.get("status") in ("failed", "rejected"):
        settle(manifest, Anchor.FAILED, anchor_transaction_id=transaction, anchor_error="the transaction failed")
    else:
        still_pending(manifest).update(anchor_transaction_id=transaction)


def still_pending(manifest: Manifest) -> Any:
    """Return the row if it is pending in this attempt."""
    return Manifest.objects.filter(
        pk=manifest.pk, anchor_status=Anchor.PENDING, anchor_requested_at=manifest.anchor_requested_at
    )


def settle(manifest: Manifest, status: str, **facts: Any) -> None:
    """End the attempt, once."""
    now = moment()
    if still_pending(manifest).update(anchor_status=status, updated_at=now, version=F("version") + 1, **facts):
        record(f"manifest.anchor_{status}", subject=str(manifest.pk), actor=str(manifest.user_id))
