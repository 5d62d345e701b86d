"""Starts the example: Tollhouse with the example's settings and plans, and the back end before it. Ctrl-C ends both.

make example        or: python examples/web-app/start.py --port 8000
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import uvicorn
from app import make_app

HERE = Path(__file__).resolve().parent
TOLLHOUSE = [sys.executable, "-c", "import sys; from tollhouse.cli import main; sys.exit(main())"]
STOP_S = 60.0


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--port", type=int, default=8000, help="of the web application")
    words.add_argument("--gateway-port", type=int, default=4000)
    words.add_argument("--home", type=Path, default=Path(".cache/web-app"), metavar="DIRECTORY", help="keeps all state")
    said = words.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends everything, as Ctrl-C does
    said.home.mkdir(parents=True, exist_ok=True)
    os.environ["TOLLHOUSE_HOME"] = str(said.home.resolve() / "tollhouse")

    serve = ["serve", "--config", str(HERE / "tollhouse.yaml"), "--port", str(said.gateway_port), "--json"]
    gateway = subprocess.Popen([*TOLLHOUSE, *serve], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert gateway.stdout is not None
        told = gateway.stdout.readline()
        if not told:
            sys.exit("Tollhouse did not start; it says why above.")
        facts = json.loads(told)
        url = facts["url"]
        print(f"Tollhouse serves on {url}, state is in {said.home}", flush=True)
        if "setup_url" in facts:
            print(f"Become its owner, once: {facts['setup_url']}", flush=True)
        if not (said.home / "tollhouse" / "master-keys").exists():
            subprocess.run([*TOLLHOUSE, "vault", "init"], check=True)  # under it lie the keys that users store
        subprocess.run([*TOLLHOUSE, "apply", "-f", str(HERE.parent / "plans.yaml"), "--yes"], check=True)
        uvicorn.run(make_app(url, said.home / "flows.db"), port=said.port, server_header=False, proxy_headers=False)
    finally:
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(STOP_S)


if __name__ == "__main__":
    main()
