"""What every part uses: files, formats, locks, the machine, numbers and text, users' code."""
