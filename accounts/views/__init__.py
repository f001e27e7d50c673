"""The account endpoints. Each parses the request, makes one domain call and answers."""
