"""Times in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds in words: 45 s, 12 min, 3 h 20 min, 12 days, 14 years."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 72 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    days = minutes / 1440
    return f"{days:.0f} days" if days < 1000 else f"{days / 365.25:.1f} years"


def step_time(seconds: float) -> str:
    """The time of one step in words: 0.31 ms, 12.4 ms, 140 ms, 1.8 s, 16 s, 5 min."""
    if seconds < 0.9995:
        return f"{_figures(1e3 * seconds)} ms"
    return f"{_figures(seconds)} s" if seconds < 89.5 else duration(seconds)


def _figures(number: float) -> str:
    """Three significant figures, no more than two places."""
    if number >= 99.95:
        return f"{number:.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}".rstrip("0").rstrip(".")
