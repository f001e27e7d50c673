"""The Lucid API Gateway."""

__version__ = "0.1.0"
