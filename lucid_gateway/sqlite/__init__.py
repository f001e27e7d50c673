"""The gateway's additions to Django's backend for SQLite."""
