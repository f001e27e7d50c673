"""Opens every page of the console with a million rows and says what each costs: `make console-scale`.

Filling the tables takes many minutes, so the databases stay in a folder, and later runs use them again.
"""
