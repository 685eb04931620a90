#!/usr/bin/env python3
"""Scrapes a server under load with a real Prometheus, and asks it all that the dashboard asks.

usage: try.py FOLDER-OF-THE-PROGRAMS [PROMETHEUS]

Starts counter-server with a store and faults, counter-client as its load, and Prometheus (Debian's package
`prometheus`, or the path of the program). Fails if the alerts are not valid rules, a scrape fails, or a query of
dashboard.json returns nothing.
"""

import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
import uuid

HERE = pathlib.Path(__file__).resolve().parent
SECONDS = 25


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, path, **params):
    query = urllib.parse.urlencode(params)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}?{query}", timeout=5) as answer:
        return json.load(answer)["data"]


def call_what_fails(address, seconds):
    """Calls that end with an error, for those panels that show errors: a counter that is full."""
    host, port = address.rsplit(":", 1)
    until = time.monotonic() + seconds
    with socket.create_connection((host, int(port))) as peer:
        while time.monotonic() < until:
            call = {"jsonrpc": "2.0", "id": str(uuid.uuid4()), "method": "inc",
                    "params": {"key": "full", "delta": 2**63 - 1}}
            body = json.dumps(call).encode()
            peer.sendall(len(body).to_bytes(4, "big") + body)
            time.sleep(0.1)


def expect_targets(port):
    deadline = time.monotonic() + 20
    while True:
        try:
            found = ask(port, "/api/v1/targets")["activeTargets"]
            if found and all(target["health"] == "up" for target in found):
                return
        except OSError:
            found = "no answer"
        if time.monotonic() > deadline:
            sys.exit(f"Prometheus can't scrape the server: {found}")
        time.sleep(0.2)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    programs = pathlib.Path(sys.argv[1])
    prometheus = sys.argv[2] if len(sys.argv) > 2 else shutil.which("prometheus")
    if not prometheus:
        sys.exit("there is no prometheus; expected the package prometheus, or its path as the second argument")
    running = []
    with tempfile.TemporaryDirectory(prefix="redial-monitoring-") as folder:
        folder = pathlib.Path(folder)
        try:
            server = subprocess.Popen(
                [programs / "counter-server", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
                 "--store", folder / "calls.db", "--inc-as", "mutation", "--max-running", "1", "--queue", "2",
                 "--running-reserve", "0", "--drop-reply", "0.05", "--delay-ms", "2", "--seed", "1"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            running.append(server)
            address = server.stdout.readline().split()[-1]
            http = server.stdout.readline().split()[-1]
            client = subprocess.Popen(
                [programs / "counter-client", "--connect", address, "--calls", "1000000", "--concurrency", "8",
                 "--attempt-timeout-ms", "200", "--max-attempts", "100"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            running.append(client)
            text = (HERE / "prometheus.yml").read_text()
            text = text.replace("15s", "1s").replace("127.0.0.1:9077", http)
            (folder / "prometheus.yml").write_text(text)
            shutil.copy(HERE / "alerts.yml", folder)
            port = free_port()
            with open(folder / "prometheus.log", "w") as log:
                running.append(subprocess.Popen(
                    [prometheus, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                     f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log))
            try:
                expect_targets(port)
            except SystemExit:
                print((folder / "prometheus.log").read_text()[-2000:], file=sys.stderr)
                raise
            rules = [rule["name"] for group in ask(port, "/api/v1/rules")["groups"] for rule in group["rules"]]
            print(f"{len(rules)} alerts: {', '.join(rules)}")
            call_what_fails(address, SECONDS)
            sys.exit(check(port))
        finally:
            for process in reversed(running):
                process.terminate()
            for process in running:
                process.wait()


def check(port):
    failed = 0
    for panel in json.loads((HERE / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            # With `or vector(0)` a panel shows 0 where nothing has happened, or where a name is wrong.
            query = target["expr"].replace("$__rate_interval", "10s").removesuffix(" or vector(0)")
            found = ask(port, "/api/v1/query", query=query)["result"]
            values = [point["value"][1] for point in found]
            is_there = any(re.fullmatch(r"[-+.0-9e]+", value) for value in values)
            failed += not is_there
            print(f"{'ok  ' if is_there else 'NONE'} {panel['title']}: {', '.join(values[:3])}")
    for rule in [rule for group in ask(port, "/api/v1/rules")["groups"] for rule in group["rules"]]:
        is_evaluated = rule["health"] != "err"
        failed += not is_evaluated
        if not is_evaluated:
            print(f"ERR  {rule['name']}: {rule.get('lastError')}")
    return 1 if failed else 0


if __name__ == "__main__":
    main()
