"""`examples/web-app/nginx.conf`, by a real nginx: each path leads to the same place as without it."""

import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from bench.certificates import issue
from bench.gateways import free_port
from tests.examples.web_app import HERE
from tests.scripted import Received, ScriptedUpstream, Step, reply
from tests.serving import STOP_S, eventually

SIGN_IN = ("/api/v1/sign-up", "/api/v1/sign-in", "/api/v1/sign-out", "/api/v1/session", "/api/v1/me")
OWN_KEYS = ("/api/v1/me/credentials", "/api/v1/me/credentials/x", "/api/v1/me/credentials/x/test")
PASSED = ("/api/chat", "/v1/messages", *SIGN_IN, *OWN_KEYS)
OTHERS = ("/api/v1/credentials", "/api/v1/me/credentials/../../users", "/api/v1/me/credentials/..%2f..%2fusers")
KEPT = (
    "/",
    "/page.js",
    "/flows",
    "/flows/x",
    *OTHERS,
    "/api/v1/users",
    "/api/v1/keys",
    "/metrics",
    "/authz",
    "/key/generate",
)


def says(name: str) -> ScriptedUpstream:
    def script(received: Received) -> list[Step]:
        return [reply(200, name.encode(), ("x-saw-host", received.header("host") or ""))]

    server = ScriptedUpstream()
    server.script = script
    return server


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the example's nginx; only addresses and certificates are this machine's."""
    place = tmp_path_factory.mktemp("nginx")
    issue(place)
    with says("tollhouse") as tollhouse, says("back end") as back_end:
        text = (HERE / "nginx.conf").read_text()
        port, plain = free_port(), free_port()
        for written, here in {
            "127.0.0.1:4000": f"127.0.0.1:{tollhouse.port}",
            "127.0.0.1:8000": f"127.0.0.1:{back_end.port}",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "listen 80;": f"listen 127.0.0.1:{plain};",
            "/etc/ssl/flows.example.pem": str(place / "server.pem"),
            "/etc/ssl/private/flows.example.key": str(place / "server.key"),
            "worker_processes auto;": f"worker_processes 1; daemon off; pid {place}/pid; "
            + ("user root;" if os.geteuid() == 0 else ""),
            "http {": "http { access_log off; "
            + " ".join(f"{kind}_temp_path {place};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")),
        }.items():
            assert text.count(written) == 1, written
            text = text.replace(written, here)
        (place / "nginx.conf").write_text(text)
        program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
        assert program, "there is no nginx: run `make setup`, or install it"
        command = [program, "-p", str(place), "-e", "stderr", "-c", str(place / "nginx.conf")]
        trust = ssl.create_default_context(cafile=place / "authority.pem")
        process = subprocess.Popen(command)
        try:
            with httpx.Client(
                base_url=f"https://localhost:{port}", verify=trust, trust_env=False, timeout=30
            ) as client:
                eventually(lambda: answers(process, client))
                client.headers["x-plain"] = str(plain)
                yield client
        finally:
            process.terminate()
            process.wait(STOP_S)


def answers(process: "subprocess.Popen[bytes]", client: httpx.Client) -> bool:
    assert process.poll() is None, "nginx did not start"
    try:
        return client.get("/").is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(("paths", "place"), [(PASSED, "tollhouse"), (KEPT, "back end")])
def test_each_path_leads_where_it_should(nginx: httpx.Client, paths: tuple[str, ...], place: str) -> None:
    for path in paths:
        answer = nginx.post(path, content=b"{}")
        assert answer.text == place, path
        assert answer.headers["x-saw-host"] == nginx.base_url.netloc.decode(), (
            "as browsers call it, to compare with origins"
        )


def test_the_web_is_told_to_come_by_tls(nginx: httpx.Client) -> None:
    for path in ("/", "/api/v1/me", "/nothing"):
        assert nginx.get(path).headers.get_list("strict-transport-security") == ["max-age=31536000"]
    plainly = httpx.get(f"http://127.0.0.1:{nginx.headers['x-plain']}/flows?a=1", timeout=30, trust_env=False)
    assert (plainly.status_code, plainly.headers["location"]) == (301, "https://127.0.0.1/flows?a=1")


def test_what_leads_to_tollhouse_is_the_back_ends_own_list() -> None:
    routes = re.findall(r'Route\("([^"{]+)[^"]*", pass_on', (HERE / "app.py").read_text())
    locations = re.findall(
        r"location (?:= )?(\S+) \{ proxy_pass http://tollhouse; \}", (HERE / "nginx.conf").read_text()
    )
    assert set(routes) == set(locations)
    assert len(set(locations)) == len(locations)
