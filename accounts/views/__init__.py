"""The account endpoints: each parses, makes one call and answers."""
