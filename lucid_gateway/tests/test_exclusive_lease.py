"""A lease in Redis: one holder at a time, and only the holder may extend or end it."""

from redis import Redis

from lucid_gateway.kernel.redis.exclusive_lease import end_lease, extend_lease, take_lease

LEASE = "{gateway:test}:lease"


def test_a_taken_lease_is_not_given_to_another_holder(empty_redis: Redis) -> None:
    assert take_lease(LEASE, "first", milliseconds=60_000)
    assert not take_lease(LEASE, "second", milliseconds=60_000)
    assert empty_redis.get(LEASE) == b"first"


def test_only_the_holder_extends_the_lease(empty_redis: Redis) -> None:
    take_lease(LEASE, "first", milliseconds=60_000)

    assert not extend_lease(LEASE, "second", milliseconds=600_000)
    assert empty_redis.pttl(LEASE) <= 60_000
    assert extend_lease(LEASE, "first", milliseconds=600_000)
    assert empty_redis.pttl(LEASE) > 60_000


def test_a_free_lease_is_not_extended(empty_redis: Redis) -> None:
    assert not extend_lease(LEASE, "first", milliseconds=60_000)
    assert not empty_redis.exists(LEASE)


def test_only_the_holder_ends_the_lease(empty_redis: Redis) -> None:
    take_lease(LEASE, "first", milliseconds=60_000)

    end_lease(LEASE, "second")
    assert empty_redis.exists(LEASE)
    end_lease(LEASE, "first")
    assert not empty_redis.exists(LEASE)
