"""What a package adds to lacewing: its entry points in pyproject.toml name one object of each file here."""
