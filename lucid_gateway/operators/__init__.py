"""What the operator pages of all apps share."""
