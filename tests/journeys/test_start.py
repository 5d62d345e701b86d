"""What `serve` imports until it is ready: memory and time of every start, needed or not."""

import re
from pathlib import Path

from tests.serving import Gateway

ON_FIRST_USE = {"argon2", "joserfc", "zxcvbn"}
"""What calls with a key do not need."""


def test_what_a_call_does_not_need_is_not_imported_while_serving_starts(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, {"local": {"enabled": False}}, PYTHONPROFILEIMPORTTIME="1")
    gateway.start()
    gateway.close()
    imported = set(re.findall(r"^import time:.*\| +(\w+)$", gateway.log.read_text(), re.MULTILINE))
    assert {"uvicorn", "sqlalchemy", "tollhouse"} <= imported
    assert imported & ON_FIRST_USE == set()
