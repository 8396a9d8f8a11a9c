"""Simulated studies for `benchmarks/coverage.py`: draws with a known truth, and what the package says of them."""
