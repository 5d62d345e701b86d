"""The page of credentials says what the tables say."""

from tools.credential_page import PAGE, page


def test_the_page_is_what_the_tables_make_it() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: PYTHONPATH=src .venv/bin/python tools/credential_page.py"
