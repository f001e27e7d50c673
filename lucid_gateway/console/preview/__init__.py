"""What would happen to a request: it is decided by the functions that decide on real requests, and not counted.

- `question`: the request, and whose it would be
- `decision`: runs the decision
- `workers`: what the workers report on a cluster
- `words`: the decision in plain English
- `remedies`: the pages on which staff can change it
- `page`, `api`: the operator page and the endpoint
"""
