"""The way of a call. Read `exchange.py` first: it tells the whole story on one screen."""
