"""Recovery codes: each replaces the second factors in one login, for users who lost theirs."""

import secrets

from django.utils import timezone

from accounts.mail import send_notice
from accounts.models import RecoveryCode, User
from lucid_gateway.audit.events import changed, record
from lucid_gateway.kernel.secrets.digests import secret_hash

CODES = 10
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without 0/o, 1/l/i
GROUPS, GROUP_LENGTH = 4, 4  # 31^16: 79 bits


def new_code() -> str:
    """Return a code such as `k3wd-...`."""
    groups = ("".join(secrets.choice(ALPHABET) for _ in range(GROUP_LENGTH)) for _ in range(GROUPS))
    return "-".join(groups)


def ensure_recovery_codes(user: User) -> list[str]:
    """Return ten new codes, or none if the account has unused ones. Codes are shown once: only hashes are stored."""
    if user.recovery_codes.filter(used_at=None).exists():
        return []
    user.recovery_codes.exclude(used_at=None).delete()
    codes = [new_code() for _ in range(CODES)]
    RecoveryCode.objects.bulk_create(RecoveryCode(code_hash=code_hash(user, code), user=user) for code in codes)
    return codes


def renew_recovery_codes(user: User) -> list[str]:
    """Replace the recovery codes, used or not, by ten new ones; return these."""
    left = user.recovery_codes.filter(used_at=None).count()
    user.recovery_codes.all().delete()
    codes = ensure_recovery_codes(user)
    record("recovery_code.renewed", subject=user, changes=changed({"left": left}, {"left": len(codes)}))
    send_notice(user, "New recovery codes were made; the earlier ones no longer work.")
    return codes


def code_hash(user: User, code: str) -> str:
    """Return the hash that is stored for a code; case, spaces and hyphens do not matter."""
    return secret_hash(f"{user.pk} {code.lower().replace('-', '').replace(' ', '')}")


def use_recovery_code(user: User, code: str) -> bool:
    """Return whether the code is right, and use it up. Of parallel uses one succeeds."""
    unused = user.recovery_codes.filter(used_at=None)
    if not unused.filter(code_hash=code_hash(user, code)).update(used_at=timezone.now()):
        return False
    left = unused.count()
    record("recovery_code.used", subject=user, left=left)
    send_notice(user, f"A recovery code was used instead of a second factor. {left} of {CODES} are left.")
    return True
