"""Revoked tokens, locked accounts and ended epochs: the database decides, and Redis is the cache that requests ask.

- `revoking`: revoke tokens and API keys, end epochs, lock accounts
- `publishing`: write revocations to Redis, later if Redis is unavailable
- `gates`: admit or refuse a caller; late revocations, which each worker reads from the database
- `cache`: whether this process trusts the revocations in Redis
- `rebuild`: rebuild them from the database
"""
