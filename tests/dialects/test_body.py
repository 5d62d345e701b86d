"""What any request body must be, and that we read no other fields of it than a provider would."""

import contextlib
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.dialects.anthropic import ANTHROPIC
from tollhouse.dialects.body import Asked, BodyReader, Name
from tollhouse.dialects.dialect import Dialect, invalid
from tollhouse.dialects.openai_chat import OPENAI_CHAT
from tollhouse.terms.errors import Refusal

both = pytest.mark.parametrize("dialect", [ANTHROPIC, OPENAI_CHAT], ids=["anthropic", "openai_chat"])


def refused(dialect: Dialect, body: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        dialect.read(body)
    assert caught.value.status == 400
    return caught.value


@both
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "Expecting value"),
        (b"{", "line 1, column 2"),
        (b'{"model":"m",}', "not valid JSON"),
        (b'{"model":"m"} {}', "Extra data"),
        (b'\xef\xbb\xbf{"model":"m"}', "BOM"),
        (b'{"model":"\xff"}', "not UTF-8 (byte 10)"),
        ('{"model":"m"}'.encode("utf-16"), "not UTF-8"),
        (b'{"model":"m","temperature":NaN}', "NaN"),
        (b'{"model":"m","x":-Infinity}', "-Infinity"),
        (b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"model":"m","x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", "nested too deeply"),
        (b'{"model":"m","messages":"\x01"}', "control character"),
    ],
)
def test_what_is_not_json(dialect: Dialect, body: bytes, says: str) -> None:
    refusal = refused(dialect, body)
    assert refusal.code == "invalid_json"
    assert says in refusal.message


@both
@pytest.mark.parametrize(
    ("body", "kind"), [(b"[]", "an array"), (b"null", "null"), (b'"m"', "a string"), (b"1", "a number")]
)
def test_what_is_not_an_object(dialect: Dialect, body: bytes, kind: str) -> None:
    refusal = refused(dialect, body)
    assert refusal.code == "invalid_request"
    assert f"not {kind}" in refusal.message


@both
@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"model":"a","model":"b"}', "model"),
        (b'{"model":"a","model":"a"}', "model"),
        (b'{"model":"a","mod\\u0065l":"b"}', "model"),
        (b'{"model":"a","stream":true,"x":"\\ud800","stream":false}', "stream"),
        (b'{"model":"a","max_tokens":1,"a":{},"max_tokens":2}', "max_tokens"),
        (b'{"messages":[],"model":"a","messages":[]}', "messages"),
        (b'{"model":"a","tools":[],"tools":[]}', "tools"),
    ],
)
def test_a_field_we_read_stands_once(dialect: Dialect, body: bytes, field: str) -> None:
    refusal = refused(dialect, body)
    assert refusal.code == "duplicate_field"
    assert refusal.details == {"field": field}


def test_a_name_that_is_asked_for_finds_what_a_plain_string_finds() -> None:
    read = BodyReader(int | str, frozenset({"model"})).read
    for body in (b'{"mode":1,"model":2,"models":3}', b'{"mode":"\\ud800","mod\\u0065l":2}'):
        fields = read(body)
        assert fields.get(Asked("model")) == fields["model"] == 2
        assert fields.get(Asked("other")) is None
    assert Asked("model") == Name("model")
    assert Name("model") == Asked("model") != Name("mode")
    assert msgspec.json.encode(invalid(Asked("model"), "wrong").details) == b'{"field":"model"}'


@both
def test_other_fields_may_repeat_and_nested_ones_too(dialect: Dialect) -> None:
    body = b'{"model":"m","x":1,"x":2,"messages":[{"role":"user","content":"a","content":"b","model":1,"model":2}]}'
    assert dialect.read(body).model == "m"


@both
def test_lone_surrogates_pass(dialect: Dialect) -> None:
    body = b'{"model":"m","stream":true,"max_tokens":5,"messages":[{"role":"user","content":"\\ud83d broken"}]}'
    ask = dialect.read(body)
    assert (ask.model, ask.stream, ask.max_output_tokens, ask.whole_window) == ("m", True, 5, "")
    edited = dialect.edit(body, ask, model="n", max_output_tokens=4)
    assert edited == body.replace(b'"m"', b'"n"').replace(b":5", b":4")


@both
@pytest.mark.parametrize(
    "model", [b"", b',"model":null', b',"model":5', b',"model":""', b',"model":["m"]', b',"model":"\\ud800"']
)
def test_a_model_is_required(dialect: Dialect, model: bytes) -> None:
    refusal = refused(dialect, b'{"x":1' + model + b"}")
    assert (refusal.code, refusal.details) == ("invalid_request", {"field": "model"})


@both
@pytest.mark.parametrize("model", ["m" * 257, "a\nb", "a\u0000"])
def test_a_model_name_is_short_and_printable(dialect: Dialect, model: str) -> None:
    assert refused(dialect, msgspec.json.encode({"model": model})).code == "invalid_request"


@both
@pytest.mark.parametrize(
    ("written", "cap"),
    [(b"1024", 1024), (b"1024.0", 1024), (b"1e3", 1000), (b"null", None), (b"0", 0), (b"9007199254740992", 2**53)],
)
def test_caps_that_are_whole_numbers(dialect: Dialect, written: bytes, cap: int | None) -> None:
    assert dialect.read(b'{"model":"m","max_tokens":' + written + b"}").max_output_tokens == cap


@both
@pytest.mark.parametrize(
    "written", [b"1.5", b'"1024"', b"true", b"-1", b"[]", b"{}", b"1e300", b"9007199254740993", b"9" * 4000]
)
def test_caps_that_are_not(dialect: Dialect, written: bytes) -> None:
    refusal = refused(dialect, b'{"model":"m","max_tokens":' + written + b"}")
    assert refusal.code == "invalid_request"
    assert "max_tokens" in refusal.message


@both
@pytest.mark.parametrize("where", [b"max_tokens", b"x"])
def test_endless_numbers_cost_no_time(dialect: Dialect, where: bytes) -> None:
    started = time.process_time()
    body = b'{"model":"m","' + where + b'":' + b"9" * 1_000_000 + b"}"
    assert "too long" in refused(dialect, body).message
    assert time.process_time() - started < 1


@both
@pytest.mark.parametrize("written", [b"1", b'"true"', b"[]"])
def test_stream_is_a_boolean(dialect: Dialect, written: bytes) -> None:
    assert "stream" in refused(dialect, b'{"model":"m","stream":' + written + b"}").message


@both
@given(body=st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(dialect: Dialect, body: bytes) -> None:
    with contextlib.suppress(Refusal):
        dialect.read(body)


FIELDS = ["messages", "system", "tools", "metadata", "thinking", "container", "context_management", "stream_options"]
FIELDS += ["prediction", "mcp_servers", "user", "prompt_cache_key", "web_search_options", "unknown"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "content", "source", "file_id", "tool", "definition", "max_uses", "edits", "id", "audio"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@both
@given(
    fields=st.dictionaries(
        st.sampled_from(FIELDS),
        json_values,
        max_size=5,
    )
)
def test_any_shape_of_any_field_is_read(dialect: Dialect, fields: dict[str, object]) -> None:
    body = msgspec.json.encode({"model": "m", **fields})
    ask = dialect.read(body)
    assert ask.model == "m"
    assert ask.body_bytes == len(body)
