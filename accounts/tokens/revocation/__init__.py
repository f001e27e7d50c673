"""Revoked tokens, locked accounts and ended epochs: the database is the authority, Redis the copy that requests ask.

- `revoking`: revoking tokens and API keys, ending epochs, locking accounts
- `publishing`: writing what was revoked to Redis, later if Redis is unavailable
- `gates`: letting a caller in, and what each worker reads of late revocations from the database
- `cache`: whether the copy in Redis is whole
- `rebuild`: building it anew
"""
