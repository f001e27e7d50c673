"""What the gateway enforces, as data: frozen tables and pure functions that need nothing but the standard library.

The gateway, its documents, its operator pages and any other data plane read the same rows. `manage.py export_policy`
prints all of it as one JSON document (`docs/policy.json`).

- `tiers`: rate limits
- `roles`: roles and permissions
- `clusters`: the backend clusters
- `routes`: which requests go to which cluster
- `paths`: the canonical form of each path
- `headers`: which header fields pass through the gateway
- `errors`: the errors that clients receive
- `reasons`: why a request was refused
- `claims`: the claims of a token
- `keys`: the names of all keys in Redis
"""
