"""The gateway's settings with a password hash that takes a hundredth of the time, for tests that log in by the hundred.

It still takes long enough to be seen in the time of an answer, should somebody leave it out.
"""

from django.contrib.auth.hashers import Argon2PasswordHasher

from lucid_gateway.settings import *  # noqa: F403  # the settings that it changes one of


class QuickArgon2(Argon2PasswordHasher):
    """Argon2 with a mebibyte."""

    time_cost, memory_cost, parallelism = 2, 1024, 1


PASSWORD_HASHERS = ["testing.quick_hashes.QuickArgon2"]
