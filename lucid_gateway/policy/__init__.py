"""What the gateway enforces, as data: frozen tables and pure functions that need nothing but the standard library.

The gateway, its documents, its operator pages and any other data plane read the same rows. `manage.py export_policy`
prints all of it as one JSON document (`docs/policy.json`).

- `tiers`: rate limits
- `roles`: roles and permissions
- `clusters`: the backend clusters
- `routes`: what is forwarded where
- `paths`: the one spelling of each path
- `headers`: which header fields pass
- `errors`: what the gateway answers when it refuses
- `reasons`: why it refused
- `claims`: what a token says
- `keys`: the names of all keys in Redis
"""
