"""docs/messages.md has every message of the package."""

from pathlib import Path

import pytest
from message_sites import sites

PAGE = Path(__file__).parents[2] / "docs" / "messages.md"


def _in_one_line(text):
    return " ".join(text.split())


@pytest.fixture(scope="module")
def page():
    return _in_one_line(PAGE.read_text(encoding="utf-8"))


def test_every_message_is_on_the_page(page):
    missing = [
        f"{site.path}: {site.template}"
        for site in sites()
        if not all(_in_one_line(part) in page for part in site.parts)
    ]
    assert missing == [], "run python tests/messages.py, or with --quick, and read what it wrote"


def test_messages_end_as_sentences():
    """A message is one or more sentences; a part of another one begins with a small letter, and has no full stop."""
    wrong = [
        f"{site.path}: {site.template}"
        for site in sites()
        if not site.template.startswith(("the ", "a ", "gave ")) and not site.template.endswith((".", "?", ")"))
    ]
    assert wrong == []
