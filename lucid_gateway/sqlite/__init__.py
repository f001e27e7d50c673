"""What the gateway adds to Django's backend for SQLite."""
