"""What signing in leaves behind: one line for each act, the same for all ways in.

Never a password, a token, or what somebody typed: a password is easily typed into the wrong field.
"""

import logging

_log = logging.getLogger("tollhouse.sign_in")


def note(act: str, *, user_id: str = "", address: str = "", by: str = "", **facts: str | int) -> None:
    """`act` is a verb in the past, `by` whoever did it if not the user."""
    said = {"user": user_id, "by": by, "address": address, **facts}
    _log.info("%s %s", act, " ".join(f"{name}={value!r}" for name, value in said.items() if value != ""))
