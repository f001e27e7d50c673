"""The global search: one field finds people, credentials, requests, addresses and recordings by their names and ids."""
