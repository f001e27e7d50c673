"""What needs attention now: `finding` has one row per kind of alarm, the other modules the functions that find them."""
