"""Revoked tokens, locked accounts and ended epochs: the database is the authority, Redis the copy that requests ask.

- `entries`: the keys of the copy in Redis, and how they are written
- `copy`: whether the copy is whole, and building it anew
- `publishing`: writing what was revoked, later if Redis is unavailable
- `ending`: revoking tokens and API keys, ending epochs, locking accounts
- `lookout`: what each worker reads of late revocations from the database
- `admission`: letting a caller in
"""
