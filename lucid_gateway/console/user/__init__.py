"""The page that shows one user: each module reads a part of it, in a constant number of queries."""
