"""What would happen to a request: it is decided by the functions that decide on real requests, and not counted.

- `question`: the request, and whose it would be
- `decision`: runs the decision, on the request and the view of `pretending`
- `workers`: what the workers report on a cluster
- `case`, `notes`: the decision as a request of the explorer, and what only a preview says about its steps
- `steps`: the steps for the API
- `page`, `api`: the operator page and the endpoint
"""
