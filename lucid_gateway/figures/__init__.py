"""The figures of all gateways: rows for ten seconds, a minute, ten minutes and an hour, kept for two days."""
