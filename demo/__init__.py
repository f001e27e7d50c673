"""Demo clusters: small real HTTP servers for the gateway to forward to."""
