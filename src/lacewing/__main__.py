"""``python -m lacewing``."""

from lacewing.cli import main

main()
