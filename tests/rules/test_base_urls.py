"""More than two hundred ways to write a URL that one reader takes for another's, and what becomes of each; and whatever
is accepted, all readers agree on its host.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.rules.addresses import AddressRules, address_problem
from tollhouse.rules.base_urls import BaseUrlError, BaseUrlRules, read_base_url
from tollhouse.upstream.providers import parse_base_url

ACCEPTED = {
    "https://api.example": "https://api.example",
    "https://api.example/": "https://api.example",
    "https://api.example/v1": "https://api.example/v1",
    "https://api.example/v1/": "https://api.example/v1",
    "https://api.example/a/b-c_d~e.f/g": "https://api.example/a/b-c_d~e.f/g",
    "https://api.example/v1/deployments/gpt-4:turbo": "https://api.example/v1/deployments/gpt-4:turbo",
    "https://api.example/a/@b": "https://api.example/a/@b",
    "https://api.example/...": "https://api.example/...",
    "HTTPS://API.Example/V1": "https://api.example/V1",
    "hTTps://api.example": "https://api.example",
    "https://api.example.": "https://api.example",
    "https://api.example./v1": "https://api.example/v1",
    "https://api.example:443": "https://api.example",
    "https://api.example:443/v1": "https://api.example/v1",
    "https://api.example:8443/v1": "https://api.example:8443/v1",
    "https://api.example:65535": "https://api.example:65535",
    "https://a": "https://a",
    "https://a-b.c-d.example": "https://a-b.c-d.example",
    "https://1.example": "https://1.example",
    "https://1.2.3.4.example": "https://1.2.3.4.example",
    "https://8.8.8.8": "https://8.8.8.8",
    "https://8.8.8.8:8443/v1": "https://8.8.8.8:8443/v1",
    "https://8.8.8.8.": "https://8.8.8.8",
    "https://[2606:4700::1111]": "https://[2606:4700::1111]",
    "https://[2606:4700:0:0:0:0:0:1111]/v1": "https://[2606:4700::1111]/v1",
    "https://[2606:4700::1111]:8443": "https://[2606:4700::1111]:8443",
    "https://[2606:4700::ABCD]": "https://[2606:4700::abcd]",
    "https://bücher.example": "https://xn--bcher-kva.example",
    "https://BÜCHER.example": "https://xn--bcher-kva.example",
    "https://bu\u0308cher.example": "https://xn--bcher-kva.example",
    "https://xn--bcher-kva.example": "https://xn--bcher-kva.example",
    "https://XN--BCHER-KVA.example": "https://xn--bcher-kva.example",
    "https://straße.example": "https://xn--strae-oqa.example",
    "https://ａｐｉ．ｅｘａｍｐｌｅ": "https://api.example",
    "https://api。example": "https://api.example",
    "https://api．example": "https://api.example",
    "https://api｡example": "https://api.example",
    "https://ⓐⓟⓘ.example": "https://api.example",
    "https://𝐚𝐩𝐢.example": "https://api.example",
    "https://８.８.８.８": "https://8.8.8.8",
    "https://аpi.example": "https://xn--pi-6kc.example",  # a Cyrillic letter: another name, and told as one
    "https://①②⑦.⓪.⓪.①": "https://127.0.0.1",  # the address is judged, as it is, when it is called
    "https://१२७.०.०.१": "https://xn--e4bcp.xn--d4b.xn--d4b.xn--e4b",
    "https://日本語.example": "https://xn--wgv71a119e.example",
    "https://api.example/v1/models/": "https://api.example/v1/models",
    "https://api.example/a(b)/c,d": "https://api.example/a(b)/c,d",
}


def words(text: str) -> list[str]:
    return text.split()


SCHEMES = words(
    "http ftp file gopher ws wss data javascript ldap dict sftp tftp jar netdoc unix httpss https+unix blob about "
    "mailto view-source"
)
LOOPBACK = words(  # each leads to this machine, or to a cloud's metadata, for somebody
    """
    127.1 127.0.1 127.00.0.1 127.000.000.001 0127.0.0.1 0177.0.0.1 0177.0.0.01 0x7f.0.0.1 0x7f.1
    0x7f000001 0X7F000001 2130706433 02130706433 017700000001 00000000177.0.0.1 0x7f.0x0.0x0.0x1
    0x7f.0.1 127.0.0.0x1 127.0.0.01 127.0.0.1e1 0x00000000007f000001 0 0x0 00 0.0 0x 0x. 1.1 1.2.3
    1.2.3.4.5 256.256.256.256 127.0.0.256 127.0.0.-1 127.0.0.+1 4294967296 9999999999 127.0.0.1..
    127..0.1 .127.0.0.1 １２７.１ 0ｘ7f.1 127。1 1e9 0x7f.0.0.1. 0xA9FEA9FE 2852039166 0251.0376.0251.0376
    169.254.43518 169.16689662
    """
)
HOSTS = [
    *LOOPBACK,
    # brackets
    *words("[ [] [: [::1 ::1] ::1 [::1]] [[::1]] [::1]x [::1]:x [::1]. .[::1] [::1].example"),
    *words("[localhost] [8.8.8.8] [v1.x]"),
    *words("[::1%eth0] [::1%25eth0] [fe80::1%25lo] [fe80::1%lo] [::ffff:127.1] [::ffff:0x7f.1] [1]"),
    *words("[:::1] [::g]"),
    *words("[0:0:0:0:0:0:0:0:1] [12345::1] [::1/128] [2606:4700::1111]."),
    # labels
    *words(". .. ... .example example.. a..b -a.example a-.example a_b.example _a.example"),
    *words("*.example a.*.example"),
    *words("a,b.example a;b.example a!b.example a$b.example a&b.example (a).example a=b.example"),
    *words("a~b.example a'b.example"),
    *words('a"b.example <a>.example a|b.example a^b.example {a}.example a`b.example a+b.example'),
    "a" * 64 + ".example",
    ".".join(["a" * 60] * 5),
    # encodings
    *words("%61pi.example api%2eexample api.example%2f@x api%00.example api.example%23.evil"),
    *words("api%E3%80%82example"),
    *words("%5b::1%5d 127%2e0%2e0%2e1 %31%32%37.1 api.example%252f api.example%0d%0a"),
    # punycode and Unicode that stand for nothing, or for what is not a host's
    *words("xn--.example xn--a.example xn--a-.example xn--0.example XN--A.example"),
    *words("xn--iñvalid.example"),
    *words("xn--api-.example xn--fuss-.example"),
    "api\u2024example",  # one dot leader: a dot, by compatibility
    "℀.example",  # a/c
    "℆.example",  # c/u
    "api\u2044v1.example",  # fraction slash
    "api\uff0fv1.example",  # full-width slash
    "api\uff20evil.example",  # full-width at
    "api\uff1fx.example",  # full-width question mark
    "api\uff03x.example",  # full-width number sign
    "api\uff1a80.example",  # full-width colon
    "api\uff3cx.example",  # full-width backslash
    "api\uff05x.example",  # full-width percent
    "\u0301api.example",  # begins with a mark
    "api\u200d.example",  # zero width joiner
    "api\u200b.example",  # zero width space
    "a\u202epi.example",  # right to left
    "\u0430\ud800.example",  # half a character
    "a\u05d0.example\u05d0b",  # directions mixed
    "\ufffd.example",
    "💩💩💩💩.example\u0000",
    # users
    *words("user@api.example user:pass@api.example @api.example :@api.example api.example@"),
    *words("api.example@evil.example"),
    *words("api.example:443@evil.example api.example:443:@evil.example a@b@evil.example"),
    *words("user%40api.example@evil.example"),
    *words("evil.example\\@api.example api.example\\evil.example \\evil.example api.example\\"),
    # ports
    *words("api.example: api.example:0 api.example:00 api.example:0443 api.example:-1"),
    *words("api.example:+443 api.example:65536"),
    *words("api.example:99999999 api.example:x api.example:443x api.example:4_43"),
    *words("api.example:443:443 :443 : ::"),
    *words("api.example:٤٤٣ api.example:４４３ api.example:1e3 api.example:0x1bb api.example:22"),
    *words("api.example:25 api.example:80"),
    *words("api.example:6 api.example:1023 api.example:443\\ api.example:443@"),
    # sites for people
    *words("claude.ai chatgpt.com CHATGPT.COM. chatgpt.com:443 ｃｌａｕｄｅ.ai"),
    *words("api.githubcopilot.com claude。ai ⓒⓗⓐⓣⓖⓟⓣ.com"),
]
RESTS = [
    *words("? ?a=b ?key=x /?x /v1?x # #x /#x /v1#x /v1?#"),
    *words("// //v1 /v1// /a//b //evil.example /. /.. /./ /../ /a/../b /a/./b /v1/.."),
    *words("/%2e%2e /%2e%2e/ /%2f /a%00 /a%0d%0a /%5c /%zz /% \\ \\v1 /a\\b /\\evil.example"),
    *words("/v1\\..\\"),
    *words('/a"b /a<b /a>b /a^b /a`b /a{b} /a|b /é /日本 /a;b'),
    *[
        "/a b",
        "/a\tb",
        "/a\nb",
        "/a\rb",
        "/a\r\nx: y",
        "/a\x00b",
        "/a\x7fb",
        "/a\x85b",
        "/a\u2028b",
        "/a\u00a0b",
        "/a\ufeffb",
    ],
]
WHOLE = [
    "",
    " ",
    "https",
    "https:",
    "https:/",
    "https://",
    "https:///",
    "https:///api.example",
    "https:////api.example",
    "https:api.example",
    "https:/api.example",
    "https:\\\\api.example",
    "https:/\\api.example",
    "https:\\/api.example",
    "//api.example",
    "/api.example",
    "api.example",
    "api.example:443",
    "https//api.example",
    "https;//api.example",
    " https://api.example",
    "https://api.example ",
    "\thttps://api.example",
    "https://api.example\n",
    "\nhttps://a.b",
    "ht\ntps://api.example",
    "https:\n//api.example",
    "https://api\n.example",
    "https://api\t.example",
    "https://a pi.example",
    "https://\napi.example",
    "https:// api.example",
    "https://api.example:44\n3",
    "\x00https://api.example",
    "https://api.example\x00",
    "\ufeffhttps://api.example",
    "\u00a0https://api.example",
    "https://api.example\u3000",
    "hｔtps://api.example",
    "https：//api.example",
    "https://https://api.example",
    "https://https//api.example:x",
    "url:https://api.example",
    "<https://api.example>",
    "'https://api.example'",
    "https://?api.example",
    "https://#api.example",
    "https://:@/",
    "https://%",
    "https://[",
    "https://api.example/" + "a" * 500,
    "https://" + "a." * 300 + "example",
]
REFUSED = list(
    dict.fromkeys(
        [
            *(f"{scheme}://api.example" for scheme in SCHEMES),
            *(f"https://{host}" for host in HOSTS),
            *(f"https://{host}/v1" for host in HOSTS[:20]),
            *(f"https://api.example{rest}" for rest in RESTS),
            *WHOLE,
        ]
    )
)


def test_there_are_many() -> None:
    assert len(REFUSED) >= 200
    assert len(REFUSED) + len(ACCEPTED) >= 300


@pytest.mark.parametrize("text", REFUSED, ids=ascii)
def test_a_trick_is_refused_without_its_secrets(text: str) -> None:
    with pytest.raises(BaseUrlError) as refused:
        read_base_url(text)
    said = str(refused.value)
    assert said.endswith(".")
    assert "pass" not in said
    assert "key=x" not in said


@pytest.mark.parametrize("text", ACCEPTED, ids=ascii)
def test_what_is_plain_has_one_form(text: str) -> None:
    url = read_base_url(text)
    assert url.text == ACCEPTED[text]
    assert read_base_url(url.text) == url
    agree(text)


def agree(text: str) -> None:
    """All readers see the same host in what was accepted: in its normal form, which alone is used from then on."""
    url = read_base_url(text)
    parts, by_httpx = urlsplit(url.text), httpx.URL(url.text)
    assert parts.hostname == by_httpx.raw_host.decode().strip("[]") == url.host
    assert (parts.port or 443) == (by_httpx.port or 443) == url.port
    assert parts.path == url.path
    assert (by_httpx.path, by_httpx.userinfo, by_httpx.query) == (url.path or "/", b"", b"")
    assert (parts.username, parts.password, parts.query, parts.fragment) == (None, None, "", "")
    operators = parse_base_url(url.text, where="here", allow_plain_http=False)
    assert (operators.scheme, operators.host, operators.port, operators.path) == ("https", url.host, url.port, url.path)
    assert url.host.isascii()
    try:
        socket.inet_aton(url.host)  # what a C library takes for an address
    except OSError:
        pass
    else:
        assert str(ipaddress.IPv4Address(url.host)) == url.host
    assert url.origin == f"https://{f'[{url.host}]' if ':' in url.host else url.host}:{url.port}"


PIECES = st.sampled_from(
    [
        *"/\\@:#?%.[]-_~ \t\n\x00\u200bａ。éА٣",
        *words("// https:// api example 127 0x7f 1 ::1 443 xn-- bcher-kva %2e user:pass .. chatgpt.com"),
    ]
)


@given(st.lists(PIECES, max_size=9).map("".join) | st.text(max_size=30))
def test_whatever_is_accepted_all_readers_agree_on(rest: str) -> None:
    for text in (f"https://{rest}", f"https://api.example{rest}", rest):
        try:
            read_base_url(text)
        except BaseUrlError:
            continue
        agree(text)


@given(st.ip_addresses())
def test_an_address_is_written_in_one_way_and_judged_by_the_same(address: ipaddress.IPv4Address) -> None:
    place = f"[{address.exploded}]" if address.version == 6 else str(address)
    url = read_base_url(f"https://{place}/v1")
    assert ipaddress.ip_address(url.host) == address
    assert bool(address_problem(ipaddress.ip_address(url.host), AddressRules())) == bool(
        address_problem(address, AddressRules())
    )


def test_ports_and_length_are_rules() -> None:
    assert read_base_url("https://api.example:9", BaseUrlRules(low_ports=frozenset((9,)))).port == 9
    with pytest.raises(BaseUrlError, match="use 443"):
        read_base_url("https://api.example:444")
    with pytest.raises(BaseUrlError, match="at most 20"):
        read_base_url("https://api.example/v1", BaseUrlRules(max_chars=20))
