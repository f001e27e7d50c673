"""The endpoints about the gateway itself: info, version, health, metrics and API documents."""
