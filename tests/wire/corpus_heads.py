"""The corpus, second half: request lines, targets, header fields, what is hidden in bodies, what ends too soon."""

from tests.wire.corpus import (
    BODY,
    END_CHUNK,
    HOST,
    KEY_LINE,
    LENGTH,
    START,
    TE,
    Case,
    Fate,
    chunked,
    framing,
    passed,
    refused,
    request,
    smuggled,
)

GET = b"GET /v1/models HTTP/1.1"


def _lines() -> list[Case]:
    def started(start: bytes) -> bytes:
        return request(LENGTH, start=start)

    cases = {
        "no version": started(b"POST /v1/messages"),
        "a version in small letters": started(b"POST /v1/messages http/1.1"),
        "HTTP/1.2 ": started(b"POST /v1/messages HTTP/1.2"),
        "HTTP/0.9": started(b"POST /v1/messages HTTP/0.9"),
        "HTTP/2.0": started(b"POST /v1/messages HTTP/2.0"),
        "HTTP/3": started(b"POST /v1/messages HTTP/3"),
        "HTTP/1": started(b"POST /v1/messages HTTP/1"),
        "HTTP/1.": started(b"POST /v1/messages HTTP/1."),
        "HTTP/11.1": started(b"POST /v1/messages HTTP/11.1"),
        "HTTP/1.10": started(b"POST /v1/messages HTTP/1.10"),
        "HTTP/01.1": started(b"POST /v1/messages HTTP/01.1"),
        "HTTP/-1.1": started(b"POST /v1/messages HTTP/-1.1"),
        "HTTPS/1.1": started(b"POST /v1/messages HTTPS/1.1"),
        "a word behind the version": started(START + b" x"),
        "a space behind the version": started(START + b" "),
        "a tab behind the version": started(START + b"\t"),
        "tabs for spaces": started(b"POST\t/v1/messages\tHTTP/1.1"),
        "a space in the target": started(b"POST /v1/ messages HTTP/1.1"),
        "a tab in the target": started(b"POST /v1/\tmessages HTTP/1.1"),
        "a request line in the target": started(b"POST /v1/messages HTTP/1.1 HTTP/1.1"),
        "a high byte in the target": started(b"POST /v1/messages\xff HTTP/1.1"),
        "an umlaut in the target": started("POST /v1/messäges HTTP/1.1".encode()),
        "NUL in the target": started(b"POST /v1/messages\x00 HTTP/1.1"),
        "DEL in the target": started(b"POST /v1/messages\x7f HTTP/1.1"),
        "a bare CR in the target": started(b"POST /v1/messages\r HTTP/1.1"),
        "a bare CR as the line's end": START + b"\r" + request(LENGTH)[len(START) + 2 :],
        "a bare LF as the line's end": START + b"\n" + request(LENGTH)[len(START) + 2 :],
        "CR CR LF as the line's end": START + b"\r\r\n" + request(LENGTH)[len(START) + 2 :],
        "all lines ended by LF": request(LENGTH).replace(b"\r\n", b"\n"),
        "all lines ended by CR": request(LENGTH).replace(b"\r\n", b"\r"),
        "the head ended by LF": request(LENGTH).replace(b"\r\n\r\n", b"\r\n\n"),
        "the head ended by LF LF": request(LENGTH).replace(b"\r\n\r\n", b"\n\n"),
        "a space before the method": started(b" " + START),
        "a NUL before the method": started(b"\x00" + START),
        "a byte order mark": started(b"\xef\xbb\xbf" + START),
        "a method in small letters": started(b"post /v1/messages HTTP/1.1"),
        "a method in mixed case": started(b"Post /v1/messages HTTP/1.1"),
        "an unknown method": started(b"POSTER /v1/messages HTTP/1.1"),
        "a method with a slash": started(b"PO/ST /v1/messages HTTP/1.1"),
        "no method": started(b"/v1/messages HTTP/1.1"),
        "only a target": b"/v1/messages\r\n\r\n",
        "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "an answer for a request": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 32,
        "PROXY protocol": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + request(LENGTH),
        "absolute form": started(b"POST http://tollhouse/v1/messages HTTP/1.1"),
        "absolute form of another host": started(b"POST http://evil.example/v1/messages HTTP/1.1"),
        "absolute form, https": started(b"POST https://tollhouse/v1/messages HTTP/1.1"),
        "absolute form, a user": started(b"POST http://a:b@tollhouse/v1/messages HTTP/1.1"),
        "no scheme, no slash": started(b"POST v1/messages HTTP/1.1"),
        "authority form": b"CONNECT tollhouse:443 HTTP/1.1\r\n" + HOST + b"\r\n\r\n",
        "asterisk form": started(b"POST * HTTP/1.1"),
        "asterisk form, OPTIONS": request(start=b"OPTIONS * HTTP/1.1", body=b""),
        "a backslash for a slash": started(b"POST \\v1\\messages HTTP/1.1"),
        "a target of 80,000 bytes": started(b"POST /v1/messages?" + b"a" * 80_000 + b" HTTP/1.1"),
        "a method of 80,000 letters": started(b"P" * 80_000 + b" /v1/messages HTTP/1.1"),
    }
    fine = {
        "RTSP/1.1 for HTTP/1.1": started(b"POST /v1/messages RTSP/1.1"),  # llhttp's weakness; it means nothing else
        "two spaces before the target": started(b"POST  /v1/messages HTTP/1.1"),
        "two spaces before the version": started(b"POST /v1/messages  HTTP/1.1"),
        "empty lines before": b"\r\n\r\n\r\n" + request(LENGTH),
        "a query": started(b"POST /v1/messages?beta=true HTTP/1.1"),
        "a query with a request in it": started(b"POST /v1/messages?a=%20HTTP/1.1%0d%0aHost:x HTTP/1.1"),
        "a query with a URL": started(b"POST /v1/messages?http://evil.example/ HTTP/1.1"),
    }
    closing = {
        "HTTP/1.0": request(LENGTH, start=START[:-1] + b"0"),
        "HTTP/1.0, kept": request(LENGTH, b"Connection: keep-alive", start=START[:-1] + b"0"),
        "HTTP/1.0 without Host": request(LENGTH, start=START[:-1] + b"0", host=None),
    }
    large = {name for name in cases if "80,000 bytes" in name}
    versions = {name for name in cases if "HTTP/" in name or "version" in name}
    statuses = {name: (431,) if name in large else (400, 505) if name in versions else (400,) for name in cases}
    return [
        *(case for name, wire in cases.items() for case in refused({name: wire}, *statuses[name])),
        *passed(fine),
        *passed(closing, Fate.PASSED_AND_CLOSED),
    ]


def _paths() -> list[Case]:
    """No spelling of a data-plane path but its own leads to a provider: the rest are other paths, and nobody's."""
    paths = (
        b"//v1/messages", b"/v1//messages", b"/v1/messages/", b"/v1/./messages", b"/v1/x/../messages",
        b"/../v1/messages", b"/v1%2fmessages", b"/v1%2Fmessages", b"/%2fv1/messages", b"/v1/%6dessages",
        b"/v1/messages%00", b"/v1/messages%0d%0aX:%20y", b"/v1/messages%20HTTP/1.1", b"/v1/messages;a=b",
        b"/v1;a=b/messages", b"/V1/MESSAGES", b"/v1/messages%3fbeta=true", b"/v1/messages#x", b"/v1\\messages",
        b"/v1/..%2fv1/messages", b"/v1/..;/messages", b"/api/v1/../../v1/messages", b"/v1/messages.json",
        b"/v1/messages,", b"/v1/messages%",
        b"/healthz?/v1/messages", b"/healthz/../v1/messages", b"/@evil.example/v1/messages", b"/http://a/v1/messages",
    )  # fmt: skip
    return [
        Case(f"path {path!r}", request(LENGTH, start=b"POST %b HTTP/1.1" % path), Fate.ANSWERED, frozenset((200, 404)))
        for path in paths
    ]


def _hosts() -> list[Case]:
    hosts = {
        "blank twice": b"\r\nHost:",
        "with a path": b"tollhouse/v1",
        "with a user": b"a@tollhouse",
        "with a space": b"tollhouse evil.example",
        "a list": b"tollhouse, evil.example",
        "with a scheme": b"http://tollhouse",
        "with a query": b"tollhouse?x",
        "with a fragment": b"tollhouse#x",
        "with a NUL": b"tollhouse\x00",
        "with a port of letters": b"tollhouse:http",
        "with two ports": b"tollhouse:80:81",
        "with a port of 6 digits": b"tollhouse:100000",
        "with a negative port": b"tollhouse:-1",
        "with a backslash": b"tollhouse\\evil",
        "a broken bracket": b"[::1",
        "quoted": b'"tollhouse"',
        "in UTF-8": "töllhouse".encode(),
        "a tag": b"<script>",
    }
    cases = {f"Host {name}": request(LENGTH, host=b"Host: " + value) for name, value in hosts.items()}
    cases |= {
        "no Host": request(LENGTH, host=None),
        "two Hosts": request(HOST, LENGTH),
        "two Hosts, different": request(b"Host: evil.example", LENGTH),
        "a Host and a folded one": request(LENGTH, host=HOST + b"\r\n evil.example"),
        "a Host with a space before the colon": request(LENGTH, host=b"Host : tollhouse"),
        "a Host behind a space": request(LENGTH, host=HOST + b"\r\n Host: evil.example"),
    }
    fine = {
        "Host blank": request(LENGTH, host=b"Host:"),
        "Host with a port": request(LENGTH, host=b"Host: tollhouse:4000"),
        "Host an IPv6 address": request(LENGTH, host=b"Host: [::1]:4000"),
        "Host in capitals": request(LENGTH, host=b"HOST: TOLLHOUSE"),
        "X-Forwarded-Host": request(LENGTH, b"X-Forwarded-Host: evil.example", b"X-Host: evil.example"),
    }
    return refused(cases) + passed(fine)


def _fields() -> list[Case]:
    lines = {
        "no name": b": x",
        "a name of a space": b" : x",
        "a space in the name": b"X Y: z",
        "a space behind the name": b"X-Y : z",
        "a tab behind the name": b"X-Y\t: z",
        "no colon": b"X-Y",
        "a slash in the name": b"X/Y: z",
        "a parenthesis in the name": b"X(Y): z",
        "a quote in the name": b'"X": z',
        "an at in the name": b"X@Y: z",
        "a bracket in the name": b"X[Y]: z",
        "a brace in the name": b"{X}: z",
        "an equals sign in the name": b"X=Y: z",
        "a comma in the name": b"X,Y: z",
        "a semicolon in the name": b"X;Y: z",
        "an umlaut in the name": "Xä: z".encode(),
        "NUL in the name": b"X\x00Y: z",
        "DEL in the name": b"X\x7fY: z",
        "NUL in the value": b"X-Y: a\x00b",
        "a control character in the value": b"X-Y: a\x01b",
        "an escape in the value": b"X-Y: a\x1bb",
        "a backspace in the value": b"X-Y: a\x08b",
        "DEL in the value": b"X-Y: a\x7fb",
        "a bare CR in the value": b"X-Y: a\rb",
        "a bare CR and a field in the value": b"X-Y: a\rX-Smuggled: b",
        "a bare LF in the value": b"X-Y: a\nb",
        "a bare LF and a field in the value": b"X-Y: a\nX-Smuggled: b",
        "a bare CR ends the value": b"X-Y: a\r\r",
        "a request behind bare LFs": b"X-Y: a\n\n" + request(LENGTH),  # for nginx, honestly two
        "folded by a space": b"X-Y: a\r\n b",
        "folded by a tab": b"X-Y: a\r\n\tb",
        "folded by a blank line": b"X-Y: a\r\n \r\n b",
        "key twice": KEY_LINE,
        "a bearer twice": b"Authorization: Bearer a\r\nAuthorization: Bearer b",
        "a header of 80,000 bytes": b"X-Y: " + b"a" * 80_000,
        "a name of 80,000 bytes": b"X" * 80_000 + b": a",
        "10,000 headers": b"\r\n".join(b"X-%d: y" % number for number in range(10_000)),
        "an encoding twice": b"Content-Encoding: identity\r\nContent-Encoding: gzip",
        "expecting something": b"Expect: 200-ok",
        "expecting two things": b"Expect: 100-continue, 200-ok",
        "expecting twice": b"Expect: 100-continue\r\nExpect: 100-continue",
        "expecting nothing": b"Expect:",
        "expecting with a parameter": b"Expect: 100-continue;a=b",
    }
    statuses = {"80,000": 431, "10,000": 431, "expecting": 417}
    found = [
        case
        for name, line in lines.items()
        for case in refused(
            {f"field, {name}": request(line, LENGTH)}, next((statuses[w] for w in statuses if w in name), 400)
        )
    ]
    fold_first = {"a fold before any field": request(LENGTH, host=None, start=START + b"\r\n " + HOST)}
    fine = {
        "a blank value": b"X-Y:",
        "a blank value of spaces": b"X-Y:  \t ",
        "Latin-1 in the value": b"X-Y: \xe4",
        "UTF-8 in the value": "X-Y: ä€𝄞".encode(),
        "an encoded CR LF in the value": b"X-Y: a%0d%0aX-Smuggled: b",
        "CR LF written as UTF-8 would truncate it": "X-Y: a\u560d\u560aX-Smuggled: b".encode(),
        "a tab in the value": b"X-Y: a\tb",
        "every token character": b"!#$%&'*+-.^_`|~09Az: y",
        "a name of digits": b"123: y",
        "10,000 short fields": b"\r\n".join([b"X:"] * 10_000),
        "the same twice": b"X-Y: a\r\nX-Y: b",
        "a field that looks like ours": b"X-Api_Key: evil",
        "hop-by-hop fields": b"Keep-Alive: 1\r\nTE: trailers\r\nProxy-Authorization: x",
        "Connection names the key": b"Connection: x-api-key",
        "Connection names the length": b"Connection: content-length",
        "Connection names Host": b"Connection: host",
        "Connection names much": b"Connection: X-Y, keep-alive ,, x-api-key,content-length,transfer-encoding",
        "Connection twice": b"Connection: keep-alive\r\nConnection: x-y",
        "Connection names nothing": b"Connection: ,,",
        "Upgrade that no Connection names": b"Upgrade: h2c",
        "expecting 100": b"Expect: 100-continue",
        "expecting 100 in capitals": b"EXPECT: 100-CONTINUE",
        "method override": b"X-HTTP-Method-Override: GET",
        "URL override": b"X-Original-URL: /api/v1/keys\r\nX-Rewrite-URL: /api/v1/keys",
    }
    closing = {
        "Connection: close": b"Connection: close",
        "Proxy-Connection: close": b"Proxy-Connection: close",
        "Connection: close among others": b"Connection: x-y, CLOSE",
        "an upgrade to h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        "an upgrade to a WebSocket": b"Connection: upgrade\r\nUpgrade: websocket",
        "an upgrade to TLS": b"Connection: upgrade\r\nUpgrade: TLS/1.0, HTTP/1.1",
    }
    encodings = (b"gzip", b"br", b"deflate", b"zstd", b"compress", b"identity, gzip", b"gzip, identity", b"")
    encoded = {f"encoding {name!r}": request(b"Content-Encoding: " + name, LENGTH) for name in encodings}
    return [
        *found,
        *refused(fold_first),
        *passed({f"field, {name}": request(line, LENGTH) for name, line in fine.items()}),
        *passed({f"field, {name}": request(line, LENGTH) for name, line in closing.items()}, Fate.PASSED_AND_CLOSED),
        *passed(
            {"an upgrade, chunked": request(b"Connection: upgrade\r\nUpgrade: h2c", TE, body=chunked())},
            Fate.PASSED_AND_CLOSED,
        ),
        *refused(
            {
                "an upgrade with a trailer": request(
                    b"Connection: upgrade\r\nUpgrade: h2c", TE, body=chunked()[:-2] + KEY_LINE + b"\r\n\r\n"
                )
            }
        ),
        *refused(encoded, 415, fate=Fate.ANSWERED_AND_CLOSED),
    ]


def _hidden() -> list[Case]:
    """A request that is a body stays one."""
    inner = smuggled()
    length = b"Content-Length: %d" % len(inner)
    quoted = BODY[:-1] + b',"x":' + b'"' + inner.replace(b'"', b'\\"').replace(b"\r\n", b"\\r\\n") + b'"}'
    spaced = BODY + b"\r\n" * 40
    answered = {
        "a request for a body": request(length, body=inner),
        "an Expect with a request for a body": request(length, b"Expect: 100-continue", body=inner),
        "a request for a chunked body": request(TE, body=chunked(inner)),
        "a request for a body, 1 byte at a time": request(
            TE, body=b"".join(b"1\r\n%c\r\n" % byte for byte in inner) + END_CHUNK
        ),
        "a request for a body, behind a good one": request(
            b"Content-Length: %d" % len(BODY + inner), body=BODY + inner
        ),
        "the end of a chunked body for a body": request(
            b"Content-Length: %d" % len(END_CHUNK + inner), body=END_CHUNK + inner
        ),
    }
    whole = {
        "a GET with a request for a body": request(length, start=GET, body=inner),
        "a HEAD with a request for a body": request(length, start=b"HEAD /v1/models HTTP/1.1", body=inner),
        "another path with a request for a body": request(length, start=b"POST /healthz HTTP/1.1", body=inner),
        "a GET of another path with a request for a body": request(length, start=b"GET /healthz HTTP/1.1", body=inner),
    }
    unread = {
        "a DELETE with a request for a body": request(length, start=b"DELETE /v1/messages HTTP/1.1", body=inner),
        "an OPTIONS with a request for a body": request(length, start=b"OPTIONS /v1/messages HTTP/1.1", body=inner),
        "a wrong key with a request for a body": request(length, body=inner).replace(KEY_LINE, b"X-Api-Key: no", 1),
        "an encoded request for a body": request(length, b"Content-Encoding: gzip", body=inner),
    }
    return [
        *refused(answered, fate=Fate.ANSWERED),
        *refused(whole, 200, 400, fate=Fate.ANSWERED),
        *refused(unread, 401, 403, 405, 415, fate=Fate.ANSWERED_AND_CLOSED),
        Case(
            "a request in a string", request(b"Content-Length: %d" % len(quoted), body=quoted),
            Fate.PASSED, frozenset((200,)), quoted,
        ),
        Case(
            "empty lines behind the object", request(b"Content-Length: %d" % len(spaced), body=spaced),
            Fate.PASSED, frozenset((200,)), spaced,
        ),
        *refused(
            {
                "an upgrade with a request behind it": request(
                    b"Connection: upgrade", b"Upgrade: websocket", start=GET, body=request(LENGTH)
                )
            },
            200,
            fate=Fate.ANSWERED_AND_CLOSED,
        ),
    ]  # fmt: skip


def _cut() -> list[Case]:
    """Whole requests cut short at every kind of place, by a client that ends its side and by one that just waits."""
    plain, pieces = request(LENGTH), request(TE, body=chunked())
    places = {
        "within the method": plain[:2],
        "behind the method": plain[:5],
        "within the target": plain[:10],
        "within the version": plain[: len(START) - 2],
        "before the line's LF": plain[: len(START) + 1],
        "behind the request line": plain[: len(START) + 2],
        "within a name": plain[: plain.index(b"Host") + 2],
        "behind a colon": plain[: plain.index(b"Host:") + 5],
        "within a value": plain[: plain.index(b"tollhouse") + 3],
        "before a field's LF": plain[: plain.index(b"tollhouse") + 10],
        "behind a field": plain[: plain.index(b"tollhouse") + 11],
        "before the head's end": plain[: plain.index(b"\r\n\r\n") + 2],
        "before the head's LF": plain[: plain.index(b"\r\n\r\n") + 3],
        "behind the head": plain[: plain.index(b"\r\n\r\n") + 4],
        "within the body": plain[:-10],
        "before the body's last byte": plain[:-1],
        "within a chunk size": pieces[: pieces.index(b"\r\n\r\n") + 5],
        "behind a chunk size": pieces[: pieces.index(b"\r\n\r\n") + 8],
        "within a chunk": pieces[:-20],
        "behind a chunk": pieces[: -len(END_CHUNK) - 2],
        "before the last chunk": pieces[: -len(END_CHUNK)],
        "within the last chunk": pieces[:-4],
        "before the last CRLF": pieces[:-2],
        "before the last LF": pieces[:-1],
    }
    statuses = frozenset((400, 408))
    return [
        *(Case(f"ended {name}", wire, Fate.CUT, statuses, half_closed=True) for name, wire in places.items()),
        *(Case(f"silent {name}", wire, Fate.CUT, statuses) for name, wire in places.items()),
        Case("ended before a byte", b"", Fate.CUT, statuses, half_closed=True),
        Case("silent from the start", b"", Fate.CUT, statuses),
    ]


def corpus() -> list[Case]:
    """All cases; names are unique."""
    return [*framing(), *_lines(), *_paths(), *_hosts(), *_fields(), *_hidden(), *_cut()]
