"""The page of all routes: those that are forwarded to clusters, and the gateway's own endpoints."""
