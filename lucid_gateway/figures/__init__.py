"""The figures of all gateways: one row per gateway for each ten seconds, minute and ten minutes, kept for two days."""
