"""The request explorer: requests that the gateway has kept, found again and explained to people."""
