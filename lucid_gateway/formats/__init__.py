"""How the operator pages write dates."""
