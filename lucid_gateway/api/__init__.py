"""Parsers, fields, permissions and documentation that the endpoints of all apps share."""
