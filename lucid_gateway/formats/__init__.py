"""The format of dates on the operator pages."""
