"""Backups of the database, for `manage.py backup` and `restore`. Redis has nothing that must be backed up."""
