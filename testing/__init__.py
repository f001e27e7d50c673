"""What the tests share: real servers that they start and stop themselves, and the cast."""
