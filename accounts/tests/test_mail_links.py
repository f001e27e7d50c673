"""Links that set a password or confirm an address: stored as hashes, for one purpose, one user and one use."""

import pytest
from redis import Redis

from accounts.login import mail_links
from accounts.login.mail_links import Link, create, look_up, use
from accounts.mail import page_link
from accounts.models import User
from accounts.tokens.issuing import end_all
from accounts.users.locks import lock_user
from lucid_gateway.kernel.secrets.digests import secret_hash
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import CodeExpired, TooManyAttempts
from testing.parallel import in_parallel


def make(user: User | None, *, purpose: str = "password", email: str = "owner@example.org", counted: str = "") -> str:
    return create(purpose, email, user=user, counted=counted or email, lifetime=600)


def is_dead(token: str, purpose: str = "password") -> bool:
    try:
        look_up(purpose, token)
    except CodeExpired:
        return True
    return False


def test_a_link_names_its_user_and_email_until_it_is_used(owner: User) -> None:
    token = make(owner, email="new@example.org")
    link = look_up("password", token)

    assert (link.user, link.email) == (owner, "new@example.org")
    assert not is_dead(token)  # looking it up does not use it up
    use(link)
    assert is_dead(token)


def test_a_second_use_is_refused_even_if_it_was_looked_up_before(owner: User) -> None:
    token = make(owner)
    first, second = look_up("password", token), look_up("password", token)
    use(first)

    with pytest.raises(CodeExpired):
        use(second)


def test_of_parallel_uses_one_succeeds(owner: User) -> None:
    link = look_up("password", make(owner))

    def try_to_use(_: int) -> bool:
        try:
            use(link)
        except CodeExpired:
            return False
        return True

    assert in_parallel(8, try_to_use).count(True) == 1


def test_tokens_are_long_and_stored_as_hashes_that_expire(owner: User, empty_redis: Redis) -> None:
    tokens = {make(owner, counted=str(number)) for number in range(3)}

    assert len(tokens) == 3
    assert all(len(token) == 43 for token in tokens)  # 256 bits
    stored = {key.decode() for key in empty_redis.keys("mail_link:*")}
    assert stored == {keys.mail_link("password", secret_hash(token)) for token in tokens}
    assert all(token not in key for token in tokens for key in stored)
    assert all(590 < empty_redis.ttl(key) <= 600 for key in stored)


def test_a_link_is_for_one_purpose(owner: User) -> None:
    assert is_dead(make(owner, purpose="email"), "password")


NEVER_MADE = ["", "nothing", "a:b*", "\0", "ü"]


def test_an_unknown_token_is_refused() -> None:
    assert all(is_dead(token) for token in NEVER_MADE)


def test_a_link_without_a_user_looks_the_same_in_redis_and_does_nothing(empty_redis: Redis) -> None:
    token = make(None, email="nobody@example.org")

    assert empty_redis.exists(keys.mail_link("password", secret_hash(token)))
    assert is_dead(token)


def test_a_link_is_void_once_all_tokens_were_ended(owner: User) -> None:
    token = make(owner)
    end_all(owner)
    assert is_dead(token)

    assert not is_dead(make(owner))


def test_a_locked_deactivated_or_deleted_owner_has_no_links(owner: User) -> None:
    token = make(owner)
    User.objects.filter(pk=owner.pk).update(is_active=False)
    assert is_dead(token)
    User.objects.filter(pk=owner.pk).update(is_active=True)
    assert not is_dead(token)
    lock_user(owner, reason="", by="")
    assert is_dead(make(owner))
    owner.delete()

    assert is_dead(token)


def test_each_requester_may_ask_for_five_links_in_five_minutes(owner: User, empty_redis: Redis) -> None:
    for _ in range(5):
        make(owner)
    with pytest.raises(TooManyAttempts) as refused:
        make(owner)

    assert 298 <= int(refused.value.headers["Retry-After"]) <= 300
    make(owner, counted="somebody else")
    make(owner, purpose="email")
    (key,) = [key for key in empty_redis.keys("mail_link_starts:password:*") if int(empty_redis.get(key) or 0) == 6]
    assert 298 <= empty_redis.ttl(key) <= 300


def test_refusals_do_not_make_the_wait_longer(owner: User, empty_redis: Redis) -> None:
    for _ in range(5):
        make(owner)
    (key,) = empty_redis.keys("mail_link_starts:*")
    empty_redis.expire(key, 40)
    with pytest.raises(TooManyAttempts) as refused:
        make(owner)

    assert 38 <= int(refused.value.headers["Retry-After"]) <= 40


def test_of_parallel_links_five_are_made(owner: User) -> None:
    def try_to_make(_: int) -> bool:
        try:
            make(owner)
        except TooManyAttempts:
            return False
        return True

    assert in_parallel(12, try_to_make).count(True) == 5


def test_neither_keys_nor_counters_reveal_the_user(owner: User, empty_redis: Redis) -> None:
    make(owner)

    assert b"owner" not in b"".join(empty_redis.keys())


def test_the_secret_is_in_the_fragment_where_no_server_sees_it() -> None:
    assert page_link("login", email="a+b@example.org", token="t&=#") == (
        "http://127.0.0.1:8080/login#email=a%2Bb%40example.org&token=t%26%3D%23"
    )


def test_a_link_shows_no_secret_when_it_is_printed(owner: User) -> None:
    token = make(owner)

    assert token not in repr(look_up("password", token))
    assert isinstance(look_up("password", token), Link)
    assert mail_links.look_up is look_up
