"""No secret that can be told by its looks is left, however it is written; ordinary words stay as they are."""

import json
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.test_credential_kinds import CODEX, WHOLE, jwt
from tollhouse.rules.credential_table import TABLE
from tollhouse.rules.scrubbing import MAX_CHARS, scrub

SECRET = "tHiSiSmAdEuP0123456789abcdef"
PREFIXES = sorted({text for row in TABLE for text in (*row.prefixes, *row.marks)})


def coded(text: str, form: str) -> str:
    return "".join(form.format(ord(character)) for character in text)


DISGUISES: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in a sentence": lambda text: f"the key {text}, which was refused.",
    "in JSON": lambda text: json.dumps({"note": f"{text}"}),
    "in JSON in JSON": lambda text: json.dumps(json.dumps({"note": text, "other": f"a\n{text}\n"})),
    "in a repr": lambda text: repr((b"x", text.encode(), {"a": text})),
    "in a URL": lambda text: f"https://api.example/v1?x=1&k={text}&y=2",
    "in a path": lambda text: f"https://api.example/keys/{text}/x",
    "percent-encoded": lambda text: quote(f"a b={text}&c", safe=""),
    "each character percent-encoded": lambda text: coded(text, "%{:02x}"),
    "encoded twice": lambda text: quote(quote(f" {text} ", safe=""), safe=""),
    "each character encoded twice": lambda text: coded(text, "%25{:02X}"),
    "each character escaped for JSON": lambda text: coded(text, "\\u{:04x}"),
    "escaped for JSON in JSON": lambda text: coded(text, "\\\\u{:04X}"),
    "each character escaped for Python": lambda text: coded(text, "\\x{:02x}"),
    "dashes escaped": lambda text: text.replace("-", "\\u002d").replace("_", "%5f"),
    "in capitals": lambda text: text.upper(),
    "behind Bearer": lambda text: f"Authorization: Bearer {text}",
    "with a tail that was wrapped": lambda text: text + "\n    QwErTyUi0p1234567890 and more",
    "twice": lambda text: f"{text} {text},{text}",
    "behind a newline in a repr": lambda text: repr(f"a\n{text}\t{text}"),
    "in a long text": lambda text: "x " * 6_000 + text,
}
SENTENCES = (
    "Tollhouse serves on http://127.0.0.1:4000",
    "This is not a Tollhouse key: keys look like `sk-th-…` and are 55 characters long.",
    "Put in an API key made in the Claude Console (it begins with sk-ant-api).",
    "providers.anthropic.api_key: The credential is empty. Put in the provider's API key.",
    "providers.a.api_key: the environment variable ANTHROPIC_API_KEY is not set (env:ANTHROPIC_API_KEY)",
    "the keys of https://id.example/jwks.json could not be fetched: it answered 503",
    "task-management-system-of-the-year, a risk-or-reward-analysis, disk-usage-report-2026",
    "FAQ.All-questions-that-were-asked tokens: 12345678, input_tokens=4096",
    "secret: see file:/run/secrets/anthropic-2026",
    "cannot connect to 10.0.0.7:5432: connection refused (code 111)",
    'File "/usr/lib/python3/ssl.py", line 517, in verify_mode',
    "key_2b71 of alice@example.com was revoked at 2026-11-22T10:00:00Z; the request req_0193aa was refused",
    "basic authentication and bearer tokens are two schemes",
    "GET /v1/messages?beta=true 200",
)


@pytest.mark.parametrize("disguise", DISGUISES)
def test_no_form_of_the_table_is_left(disguise: str) -> None:
    wear = DISGUISES[disguise]
    for secret in (*(prefix + SECRET for prefix in PREFIXES), *whole_forms()):
        text = scrub(wear(secret))
        tail = secret[-12:]
        for left in (tail, tail.upper(), wear(tail) if "each" in disguise or "escaped" in disguise else tail):
            assert left not in text, (secret, text)
        assert "QwErTyUi0p" not in text


def whole_forms() -> list[str]:
    return [text for text in WHOLE if text != "tid=abc;exp=1790000000" and "1PSID" not in text] + [jwt(CODEX)]


FIELDS = {
    "Authorization: Basic dXNlcjpo{}": "dXNlcjpo",
    "authorization: Digest username=x, response={}": "Digest",
    "Proxy-Authorization: {}\r\nHost: x": "",
    "(b'x-api-key', b'{}')": "",
    "{{'Cookie': 'tollhouse_session={}; a=b'}}": "",
    "set-cookie: session={}; HttpOnly": "",
    "Cookie: a=b; c={}": "",
    '{{"api_key": "{}", "model": "m"}}': "",
    '{{\\"password\\": \\"{}\\"}}': "",
    "password={}&user=u": "",
    "client_secret={}": "",
    "OPENAI_API_KEY={}": "",
    "x-goog-api-key: {}": "",
    "https://api.example/v1?key={}": "",
    "https://api.example/v1?a=1&key={}&b=2": "",
    "https://api.example/cb?code={}&state={}": "",
    "GET%20/v1%3Fkey%3D{}%26a%3D1": "",
    "postgresql://tollhouse:{}@db.example:5432/x": "tollhouse:",
    "https://user:p@{}@proxy.example": "p@",
    "/setup/{}": "",
    "/invitation/{}": "",
    "https://hooks.slack.com/services/T0/B0/{}": "",
    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----": "",
    "bearer%20{}": "",
    "Bearer\\n{}": "",
}


@pytest.mark.parametrize("form", FIELDS)
def test_what_stands_where_secrets_stand_is_masked_whatever_it_is(form: str) -> None:
    for secret in ("hunter2hunter2hunter2", "Zz9+/Zz9+/Zz9+/Zz9="[:18].replace("+/", "ab")):
        text = scrub(f"before {form.format(*[secret] * form.count('{}'))} \nafter")
        assert secret not in text, text
        assert not FIELDS[form] or FIELDS[form] not in text
        assert text.startswith("before ")
        assert text.endswith("after")


@pytest.mark.parametrize("sentence", SENTENCES)
def test_ordinary_words_stay(sentence: str) -> None:
    assert scrub(sentence) == sentence


def test_what_is_masked_can_still_be_told() -> None:
    assert scrub(f"refused sk-ant-oat01-{SECRET}!") == "refused sk-ant-oat***!"
    assert scrub("postgresql://u:p@db.example/x?sslmode=on") == "postgresql://***@db.example/x?sslmode=on"
    assert scrub(scrub(f"Bearer {SECRET}")) == scrub(f"Bearer {SECRET}") == "Bearer ***"


@given(st.text(max_size=60) | st.text("sk-antho%2d5f\\u0x_.=:;,'\"{} \n?&key@/Bearybcio", max_size=120))
def test_no_text_breaks_it(text: str) -> None:
    assert isinstance(scrub(text), str)
    assert SECRET not in scrub(f"{text} sk-ant-oat01-{SECRET} {text}")


PIECES = [
    *(
        "eyJ",
        "sk-",
        "sk-th-",
        "%25",
        "%2525",
        "\\",
        "\\u00",
        "\\\\\\\\u00",
        "bearer ",
        'password="',
        "api_key=",
        "'",
        '"',
    ),
    *(
        "a=b;",
        "://",
        "@",
        "-----BEGIN PRIVATE KEY-----",
        "A",
        "A1",
        "?key=",
        "x-amz-",
        "\n",
        " ",
        "%",
        "tid=",
        "tid=a;",
    ),
    *(
        "rt_",
        "rt_" + "a" * 30,
        "1//0",
        "AQ.",
        "api_key: ",
        "authorization,  ",
        "cookie",
        "/setup/",
        "sess-",
        "AKIA",
        "é",
    ),
    "sk-abcdefghijklm ABCDEFGHIJKLMNOPQRSTUVW ",
]


@pytest.mark.parametrize("piece", PIECES, ids=ascii)
def test_the_worst_text_costs_no_more_than_its_length(piece: str) -> None:
    """A third of a second at most here; a cost that grew as the square would be minutes for the ten copies."""
    started = time.process_time()
    scrub((piece * MAX_CHARS)[: 10 * MAX_CHARS])
    assert time.process_time() - started < 10


def test_a_text_without_end_is_cut() -> None:
    text = scrub("x" * (MAX_CHARS + 1_000) + SECRET)
    assert text.endswith(f"… ({1_000 + len(SECRET):,} characters more)")
    assert len(text) < MAX_CHARS + 50
