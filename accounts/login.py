"""Login by a mailed code: one challenge, one use, five guesses, five minutes; all of it in Redis."""

import hmac
import secrets
from pathlib import Path

from django.conf import settings
from django.utils import timezone
from redis import Redis

from accounts.mail import send_login_code
from accounts.models import User
from accounts.tokens import Device, TokenPair, issue_tokens
from lucid_gateway.errors import AccountLocked, CodeExpired, CodeInvalid
from lucid_gateway.redis_access import redis_call
from lucid_gateway.redis_script import RedisScript

CODE_LIFETIME_SECONDS = 300
MAX_GUESSES = 5
check_guess = RedisScript(Path(__file__).parent / "guess.lua")


def keyed_hash(purpose: str, text: str) -> str:
    """Return a hash that only this gateway can make: six digits are not to be found out from Redis."""
    return hmac.digest(settings.SECRET_KEY.encode(), f"{purpose} {text}".encode(), "sha256").hex()


def challenge_key(email: str) -> str:
    """Return the key of the challenge that waits for this address."""
    return f"login_challenge:{keyed_hash('email', email)}"


def start_login(email: str) -> None:
    """Start a challenge and mail its code. Unknown and locked accounts get a challenge that nobody can answer,
    so that neither the answer nor the work done for it tells them apart.
    """
    code = f"{secrets.randbelow(10**6):06d}"
    user = User.objects.filter(email=email, is_active=True).first()
    welcome = user is not None and not user.is_locked
    secret = keyed_hash("code", f"{email} {code}") if welcome else secrets.token_hex(32)
    key = challenge_key(email)

    def store(redis: Redis) -> None:
        pipeline = redis.pipeline(transaction=True)
        pipeline.delete(key)
        pipeline.hset(key, mapping={"hash": secret, "guesses": 0})
        pipeline.expire(key, CODE_LIFETIME_SECONDS)
        pipeline.execute()

    redis_call(store)
    if user is not None and welcome:
        send_login_code(user, code, minutes=CODE_LIFETIME_SECONDS // 60)


def finish_login(email: str, code: str, *, device: Device) -> tuple[User, TokenPair]:
    """Use the code up and return the user with new tokens; raise CodeInvalid, CodeExpired or AccountLocked."""
    guess = keyed_hash("code", f"{email} {code}")
    verdict: int = check_guess([challenge_key(email)], [guess, MAX_GUESSES])
    if verdict < 0:
        raise CodeExpired()
    if verdict == 0:
        raise CodeInvalid()
    return log_in(email, device=device)


def log_in(email: str, *, device: Device) -> tuple[User, TokenPair]:
    """Issue tokens to a user who has proved the address."""
    user = User.objects.filter(email=email, is_active=True).first()
    if user is None:
        raise CodeExpired()
    if user.is_locked:
        raise AccountLocked()
    user.last_login, user.email_verified = timezone.now(), True
    user.save(update_fields=["last_login", "email_verified"])
    return user, issue_tokens(user, device=device)
