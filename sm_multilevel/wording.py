"""Words that messages share."""

from __future__ import annotations

import difflib

__all__ = ["suggest"]


def suggest(name: str, candidates) -> str:
    """A sentence with the closest known names."""
    names = [str(c) for c in candidates]
    close = [c for c in names if c.casefold() == str(name).casefold()]
    close = close or difflib.get_close_matches(str(name), names, n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
