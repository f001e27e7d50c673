"""Confirmation pages, search and long lists for the operator pages of all apps."""
