"""The page of who may do what says what the tables say."""

from tools.access_page import PAGE, page


def test_the_page_is_what_the_tables_make_it() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: PYTHONPATH=src .venv/bin/python tools/access_page.py"
