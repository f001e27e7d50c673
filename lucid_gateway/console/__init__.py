"""The console: the site of the operator pages, and the pages that show several apps at once."""
