"""What the endpoints of all apps share."""
