"""The head of a request: which headers travel on, which stay, and where its path leads."""

import pytest

from tollhouse.dataplane.head import MalformedHead, RequestHead, read_head, route_of
from tollhouse.terms.names import DialectName, Endpoint

HOST = (b"host", b"tollhouse")


def head(*headers: tuple[bytes, bytes], url: bytes = b"/v1/messages", version: str = "1.1") -> RequestHead:
    return read_head(b"POST", url, [HOST, *headers], version, True, 65_536)


def test_headers_travel_on_byte_for_byte_and_in_order() -> None:
    sent = [
        (b"anthropic-version", b"2026-10-21"),
        (b"anthropic-beta", b"a,b"),
        (b"x-unheard-of", b"\xc3\xa9 =;, \t x"),
        (b"user-agent", b"claude-cli/2.1 (external)"),
        (b"anthropic-beta", b"c"),
        (b"content-type", b"application/json"),
    ]
    assert head(*sent).forwarded == b"".join(b"%b: %b\r\n" % pair for pair in sent)


@pytest.mark.parametrize(
    "name",
    [
        b"authorization", b"x-api-key", b"cookie", b"accept-encoding", b"connection", b"keep-alive", b"te", b"trailer",
        b"upgrade", b"http2-settings", b"proxy-authorization", b"content-length", b"expect", b"host", b"origin",
        b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via", b"openai-organization", b"openai-project",
        b"x-tollhouse-user", b"x-openwebui-user-id", b"x-openwebui-user-email", b"sec-fetch-mode", b"cf-connecting-ip",
        b"referer",
    ],
)  # fmt: skip
def test_what_stays_here(name: bytes) -> None:
    value = {b"content-length": b"3", b"expect": b"100-continue"}.get(name, b"secret")
    headers = [(name, value)] if name != b"host" else []
    assert head(*headers).forwarded == b""


def test_whom_open_webui_names_is_read() -> None:
    assert head().end_user == ""
    assert head((b"x-openwebui-user-id", b"web-7")).end_user == "web-7"
    assert head((b"x-openwebui-user-id", b"\xff" * 500)).end_user == "\ufffd" * 128


def test_headers_named_by_connection_stay_too() -> None:
    named = head(
        (b"x-hop", b"1"), (b"x-hop-not", b"2"), (b"connection", b"close, X-Hop"), (b"connection", b" x-other "),
        (b"x-other", b"3"), (b"x-kept", b"4"),
    )  # fmt: skip
    assert named.forwarded == b"x-hop-not: 2\r\nx-kept: 4\r\n"


@pytest.mark.parametrize("host", [b"a", b"a:1", b"a.b-c_d~%20", b"127.0.0.1:4000", b"[::1]", b"[::1]:4000", b"", b"a:"])
def test_good_hosts(host: bytes) -> None:
    assert read_head(b"GET", b"/", [(b"host", host)], "1.1", True, 999).read[b"host"] == host


@pytest.mark.parametrize(
    "host", [b"a b", b"a/b", b"a@b", b"a:b", b"a:123456", b"a,b", b"[::1", b"::1", b"a\\b", b"a?b"]
)
def test_bad_hosts(host: bytes) -> None:
    with pytest.raises(MalformedHead) as caught:
        read_head(b"GET", b"/", [(b"host", host)], "1.1", True, 999)
    assert (caught.value.status, caught.value.code) == (400, "malformed_host")


@pytest.mark.parametrize("name", [b"host", b"x-api-key", b"authorization", b"content-length", b"content-encoding"])
def test_what_may_stand_only_once(name: bytes) -> None:
    with pytest.raises(MalformedHead) as caught:
        head((name, b"1"), (name, b"1"))
    assert caught.value.code == "duplicate_header"


def test_the_size_counts_names_values_and_the_target() -> None:
    headers = [HOST, (b"a", b"b" * 10)]
    size = len(b"/xy") + sum(len(name) + len(value) + 4 for name, value in headers)
    read_head(b"GET", b"/xy", headers, "1.1", True, size)
    with pytest.raises(MalformedHead) as caught:
        read_head(b"GET", b"/xy", headers, "1.1", True, size - 1)
    assert caught.value.status == 431


def test_http_1_0_needs_no_host_and_keeps_nothing_alive() -> None:
    old = read_head(b"POST", b"/", [(b"expect", b"100-continue")], "1.0", True, 999)
    assert (old.keep_alive, old.expect_continue) == (False, False)
    with pytest.raises(MalformedHead):
        read_head(b"POST", b"/", [], "1.1", True, 999)


MESSAGES, CHAT = (Endpoint.MESSAGES, DialectName.ANTHROPIC), (Endpoint.CHAT_COMPLETIONS, DialectName.OPENAI_CHAT)
COUNT = (Endpoint.COUNT_TOKENS, DialectName.ANTHROPIC)
RESPONSES = (Endpoint.RESPONSES, DialectName.OPENAI_RESPONSES)
EMBEDDINGS = (Endpoint.EMBEDDINGS, DialectName.OPENAI_EMBEDDINGS)
MODELS = (Endpoint.MODELS, DialectName.OPENAI_CHAT)
ANTHROPIC_MODELS = (Endpoint.MODELS, DialectName.ANTHROPIC)
PATHS = {
    b"/v1/messages": MESSAGES,
    b"/messages": MESSAGES,
    b"/v1/v1/messages": MESSAGES,
    b"/anthropic/v1/messages": MESSAGES,
    b"/anthropic/messages?beta=true": MESSAGES,
    b"/v1/messages/count_tokens": COUNT,
    b"/anthropic/v1/v1/messages/count_tokens": COUNT,
    b"/chat/completions": CHAT,
    b"/v1/chat/completions": CHAT,
    b"/openai/v1/chat/completions": CHAT,
    b"/v1/responses": RESPONSES,
    b"/responses": RESPONSES,
    b"/v1/v1/responses": RESPONSES,
    b"/openai/v1/responses": RESPONSES,
    b"/v1/embeddings": EMBEDDINGS,
    b"/openai/embeddings": EMBEDDINGS,
    b"/v1/responses/resp_1": None,
    b"/v1/responses/compact": None,
    b"/anthropic/v1/responses": None,
    b"/v1/models": MODELS,
    b"/models": MODELS,
    b"/v1/models/claude-x": MODELS,
    b"/v1/models/local/smollm2": MODELS,
    b"/anthropic/v1/models": ANTHROPIC_MODELS,
    b"/anthropic/v1/models/claude-x": ANTHROPIC_MODELS,
    b"/v1/models/": None,
    b"/v1/messages/": None,
    b"/v1/messages/batches": None,
    b"/V1/messages": None,
    b"/openai/v1/messages": None,
    b"/anthropic/v1/chat/completions": None,
    b"/v1//messages": None,
    b"/v1/%6dessages": None,
    b"/": None,
    b"/api/v1/models/x": None,
}


@pytest.mark.parametrize("url", PATHS)
def test_where_a_path_leads(url: bytes) -> None:
    route = route_of(head(url=url))
    assert (None if route is None else (route.endpoint, route.dialect)) == PATHS[url]


def test_models_in_the_shape_of_who_asks() -> None:
    route = route_of(head((b"anthropic-version", b"2023-06-01"), url=b"/v1/models"))
    assert route is not None
    assert (route.endpoint, route.dialect) == ANTHROPIC_MODELS
    assert route.methods == (b"GET", b"HEAD")
