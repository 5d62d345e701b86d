"""One command for all figures: a part that fails, or says nothing, fails the whole."""

import json
import subprocess
import sys

import pytest

from tests import proof


def printing(text: str, code: int = 0) -> tuple[float, proof.Command]:
    return 1.0, lambda minutes, seed: ["-c", f"import sys; print({text!r}); sys.exit({code})"]


GOOD = printing('progress\n{"lost": 0, "ok": true}')


def test_the_whole_is_ok_when_every_part_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert proof.main(["--json"], {"one": GOOD, "two": printing('{"lost": 0}')}) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"one": {"lost": 0, "ok": True}, "two": {"lost": 0, "ok": True}, "ok": True}


@pytest.mark.parametrize(
    "bad",
    [
        printing('{"lost": 1, "ok": false}'),
        printing('{"lost": 0, "ok": true}', code=1),
        printing('{"lost": 0}', code=1),
        printing("Traceback", code=1),
        printing(""),
    ],
)
def test_one_bad_part_is_enough(bad: tuple[float, proof.Command], capsys: pytest.CaptureFixture[str]) -> None:
    assert proof.main(["--json"], {"bad": bad, "good": GOOD}) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["bad"]["ok"], found["good"]["ok"]) == (False, False, True)


def test_time_is_shared_among_the_parts() -> None:
    assert sum(share for share, _ in proof.PARTS.values()) == pytest.approx(1.0)


def test_its_parts_know_their_arguments() -> None:
    """Each accepts what it is called with: asked for help beside them, it gives it."""
    for _, command in proof.PARTS.values():
        done = subprocess.run([sys.executable, *command(1.0, 0), "--help"], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        for word in command(1.0, 0):
            if word.startswith("--"):
                assert word in done.stdout
