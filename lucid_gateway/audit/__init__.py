"""The audit log: events, their kinds, and their export."""
