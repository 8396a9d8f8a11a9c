"""Engines: where and when jobs run."""
