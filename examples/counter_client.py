#!/usr/bin/env python3
"""A Redial client in one file of standard-library Python, without sessions.

    counter_client.py --connect 127.0.0.1:7077 --calls 100 --json

It speaks JSON-RPC 2.0 or, with --dialect notebook, the notebook's own messages, which are the same
without "jsonrpc".

Three rules make a retry safe: every attempt of a call carries the same id, the reply to any of them
counts however late it arrives, and after a failure the client knows whether a request was sent that
may have been executed.
"""

import argparse
import errno
import json
import math
import os
import random
import re
import selectors
import socket
import ssl
import struct
import sys
import threading
import time
import uuid

MAX_FRAME = 1 << 20
RESEND_WINDOW_S = 8  # a server keeps its record of a call for 10 s, and later may run it again
MAX_MS = 24 * 60 * 60 * 1000  # a day, longer than any sensible wait
MAX_CALLS = 10_000_000  # each is kept, for the summary
MAX_THREADS = 1024
MAX_ATTEMPTS = 1_000_000
MAX_FACTOR = 1000
RETRYABLE = {-32001, -32006}  # overloaded, shutting down: not executed, may be sent again
NOT_EXECUTED = {-32700, -32600, -32601, -32602}  # errors with Redial's own codes say it in their data


class CallFailed(Exception):
    def __init__(self, outcome, attempts, text):
        super().__init__(text)
        self.outcome, self.attempts = outcome, attempts


class Connection:
    """Frames over TCP or TLS: a 4-byte big-endian length, then that many bytes of JSON."""

    def __init__(self, args, timeout):
        until = time.monotonic() + timeout
        self.socket = connect(args.connect, timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        try:
            if args.tls is not None:
                self.socket.settimeout(max(until - time.monotonic(), 0.001))
                name = args.tls_name or args.connect[0]
                self.socket = args.tls.wrap_socket(self.socket, server_hostname=name)
            if args.token is not None:
                self.authenticate(args, until)
        except Exception:
            self.close()
            raise

    def authenticate(self, args, until):
        """Shows the token. Nothing else is answered before that."""
        message = {"id": "auth", "method": "rpc.auth", "params": {"token": args.token}}
        if args.dialect == "jsonrpc":
            message["jsonrpc"] = "2.0"
        reply = None
        while reply is None:
            left = until - time.monotonic()
            if left <= 0:
                raise OSError("no answer to the token in time")
            self.send(message, left)
            # An answer may be lost. A second one is passed over later, as a late reply is.
            reply = self.receive(min(until, time.monotonic() + args.attempt_timeout_ms / 1000))
        if "error" in reply:
            raise OSError(f"the token was refused: {reply['error']['message']}")

    def send(self, message, timeout):
        body = json.dumps(message).encode()
        self.socket.settimeout(max(timeout, 0.001))
        self.socket.sendall(struct.pack(">I", len(body)) + body)

    def receive(self, until):
        """The next message, or None if none arrives in time."""
        while True:
            if len(self.buffer) >= 4:
                (length,) = struct.unpack(">I", self.buffer[:4])
                if not 1 <= length <= MAX_FRAME:
                    raise OSError(f"frame of {length} bytes")
                if len(self.buffer) >= 4 + length:
                    body, self.buffer = self.buffer[4:4 + length], self.buffer[4 + length:]
                    return json.loads(body)
            left = until - time.monotonic()
            if left <= 0:
                return None
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except socket.timeout:
                return None
            if not data:
                raise OSError("the server closed the connection")
            self.buffer += data

    def close(self):
        self.socket.close()


def connect(address, timeout):
    """A socket to the first address of a name that answers. One that is silent for 250 ms is joined
    by the next (RFC 8305), so a black hole among them costs a moment and not the timeout."""
    until, error = time.monotonic() + timeout, OSError("the name has no address")
    untried = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    with selectors.DefaultSelector() as running:
        try:
            while untried or running.get_map():
                if untried:
                    family, kind, protocol, _, target = untried.pop(0)
                    attempt = socket.socket(family, kind, protocol)
                    attempt.setblocking(False)
                    running.register(attempt, selectors.EVENT_WRITE)
                    failure = attempt.connect_ex(target)
                    if failure not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
                        error = OSError(failure, os.strerror(failure))
                        running.unregister(attempt)
                        attempt.close()
                        continue
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"no address answered within {timeout:.1f} s")
                for key, _ in running.select(min(left, 0.25) if untried else left):
                    running.unregister(key.fileobj)
                    failure = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if failure == 0:
                        return key.fileobj
                    key.fileobj.close()
                    error = OSError(failure, os.strerror(failure))
            raise error
        finally:
            for key in list(running.get_map().values()):
                key.fileobj.close()


class Client:
    """One connection with one call at a time: each thread has its own."""

    def __init__(self, args, seed):
        self.args, self.random = args, random.Random(seed)
        self.connection, self.connects = None, 0

    def call(self, method, params):
        """Returns (result, attempts) or raises CallFailed."""
        args, call_id = self.args, str(uuid.uuid4())
        deadline = time.monotonic() + args.deadline_ms / 1000
        # An attempt is open once it was sent, until it is refused.
        open_attempts, open_since, attempt, cause = 0, 0.0, 0, "no time"
        while attempt < args.max_attempts and time.monotonic() < deadline:
            until = deadline
            if open_attempts > 0:
                until = min(deadline, open_since + RESEND_WINDOW_S)
            try:
                self.connect(until)
            except OSError as error:
                raise self.gave_up(open_attempts, attempt, f"cannot connect: {error}")
            attempt += 1
            retry_at = 0.0
            message = self.message(call_id, method, params, attempt)
            try:
                if open_attempts == 0:
                    open_since = time.monotonic()
                open_attempts += 1  # from here on it may have arrived
                self.connection.send(message, deadline - time.monotonic())
                until = min(time.monotonic() + args.attempt_timeout_ms / 1000, deadline)
                reply = self.reply_to(call_id, until)
                cause = f"no reply within {args.attempt_timeout_ms} ms"
            except (OSError, ValueError) as error:
                self.disconnect()
                reply, cause = None, str(error)
            # The pause between attempts is a wait for a late reply, too.
            while True:
                if reply is not None:
                    error = reply.get("error")
                    if error is None:
                        return reply["result"], attempt
                    executed = executed_of(error)
                    cause = f"{error['code']} {error['message']}"
                    if executed == "yes":
                        raise CallFailed("failed", attempt, cause)
                    if executed == "unknown":
                        raise CallFailed("unknown", attempt, cause)
                    open_attempts -= 1
                    if error["code"] not in RETRYABLE:
                        raise self.gave_up(open_attempts, attempt, cause)
                    retry_at = time.monotonic() + data_of(error).get("retry_after_ms", 0) / 1000
                pause_until = max(time.monotonic() + self.backoff(attempt), retry_at)
                too_late = open_attempts > 0 and pause_until > open_since + RESEND_WINDOW_S
                is_last = attempt >= args.max_attempts or pause_until >= deadline or too_late
                if is_last and open_attempts == 0:
                    raise self.gave_up(open_attempts, attempt, cause)
                reply = self.late_reply(call_id, deadline if is_last else pause_until)
                if reply is None and is_last:
                    raise self.gave_up(open_attempts, attempt, cause)
                if reply is None:
                    time.sleep(max(0.0, pause_until - time.monotonic()))
                    break
        raise self.gave_up(open_attempts, attempt, cause)

    def message(self, call_id, method, params, attempt):
        message = {"id": call_id, "method": method, "params": params}
        if self.args.dialect == "jsonrpc":
            message["jsonrpc"] = "2.0"
        if attempt > 1:
            message["redial"] = {"attempt": attempt}
        return message

    def gave_up(self, open_attempts, attempt, cause):
        outcome = "unknown" if open_attempts > 0 else "not_executed"
        return CallFailed(outcome, attempt, cause)

    def backoff(self, attempt):
        """Exponential, capped, with full jitter."""
        args = self.args
        delay = args.backoff_ms * args.factor ** min(attempt - 1, 64)
        return self.random.uniform(0, min(delay, args.backoff_cap_ms)) / 1000

    def reply_to(self, call_id, until):
        while True:
            reply = self.connection.receive(until)
            if reply is None or reply.get("id") == call_id:
                return reply  # others are late replies to finished calls

    def late_reply(self, call_id, until):
        if self.connection is not None:
            try:
                return self.reply_to(call_id, until)
            except (OSError, ValueError):
                self.disconnect()
        return None

    def connect(self, until):
        """Connects, and waits for a server that was there before, which costs no attempt. It does
        not wait for a server that it has never reached."""
        tries = 0
        while self.connection is None:
            left = max(until - time.monotonic(), 0.001)
            try:
                self.connection = Connection(self.args, min(left, 5))
                self.connects += 1
            except OSError:
                tries += 1
                pause = self.backoff(tries)
                if self.connects == 0 or time.monotonic() + pause >= until:
                    raise
                time.sleep(pause)

    def disconnect(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def data_of(error):
    data = error.get("data")
    return data if isinstance(data, dict) else {}


def executed_of(error):
    """Whether the call was executed: as the data says, or else as the code says."""
    code = error["code"]
    by_code = "no" if code in NOT_EXECUTED else "yes"
    if code not in NOT_EXECUTED and code not in (-32603, -32000, -32007):
        by_code = "unknown" if -32768 <= code <= -32000 else "yes"
    return data_of(error).get("executed", by_code)


def work(args, client, calls, records):
    for _ in calls:
        start = time.monotonic()
        try:
            _, attempts = client.call("inc", {"key": args.key, "delta": args.delta})
            outcome, text = "ok", None
        except CallFailed as error:
            outcome, attempts, text = error.outcome, error.attempts, str(error)
        records.append((outcome, attempts, time.monotonic() - start, text))


def summary(args, records, elapsed, connects, value):
    latencies = sorted(round(seconds * 1e6) for outcome, _, seconds, _ in records if outcome == "ok")

    def at(quantile):
        return latencies[min(int(quantile * len(latencies)), len(latencies) - 1)] if latencies else None

    counts = [attempts for _, attempts, _, _ in records]
    outcomes = [outcome for outcome, _, _, _ in records]
    return {
        "calls": len(records),
        **{name: outcomes.count(name) for name in ("ok", "not_executed", "failed", "unknown")},
        "attempts_total": sum(counts),
        "attempts_histogram": {str(n): counts.count(n) for n in sorted(set(counts))},
        "replayed_or_joined": None,
        "elapsed_s": elapsed,
        "calls_per_s": len(records) / max(elapsed, 1e-9),
        "latency_us": {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1)},
        "value": value,
        "naive": False,
        "connects": connects,
    }


def address(text):
    host, _, port = text.rpartition(":")
    try:
        if host:
            return host.strip("[]"), whole(1, 65535)(port)
    except argparse.ArgumentTypeError:
        pass
    raise argparse.ArgumentTypeError(
        "expected HOST:PORT, such as 127.0.0.1:7077, with a port from 1 to 65535")


def whole(least, most):
    """A parser of whole numbers in a range. Python's own would take " 7", 1_000 and other scripts'
    digits, and any length."""

    def parse_whole(text):
        is_number = re.fullmatch(r"[+-]?[0-9]{1,40}", text) is not None
        if not is_number or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}")
        return int(text)

    return parse_whole


def factor(text):
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 1 <= number <= MAX_FACTOR:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {MAX_FACTOR}")
    return number


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--connect", type=address, default="127.0.0.1:7077", metavar="ADDR",
                        help="the server's address, HOST:PORT")
    parser.add_argument("--tls-ca", metavar="FILE",
                        help="speak TLS, with a server that one of these authorities has signed (PEM)")
    parser.add_argument("--tls-cert", metavar="FILE", help="show this certificate to the server (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="the certificate's private key (PEM)")
    parser.add_argument("--tls-name", metavar="NAME",
                        help="the name that the server's certificate has to be for, if not that of --connect")
    parser.add_argument("--token-file", metavar="FILE", help="show the token in this file")
    parser.add_argument("--key", default="k", help="the name of the counter")
    parser.add_argument("--dialect", choices=("jsonrpc", "notebook"), default="jsonrpc",
                        help="how to write requests: as JSON-RPC 2.0, or as in the notebook")
    for name, default, parse_number, text in (
            ("calls", 100, whole(0, MAX_CALLS), "how many calls to make"),
            ("concurrency", 8, whole(1, MAX_THREADS), "how many calls are in flight at once"),
            ("delta", 1, whole(-1 << 63, (1 << 63) - 1), "what each call adds to the counter"),
            ("max-attempts", 20, whole(1, MAX_ATTEMPTS), "the most attempts of a call, the first included"),
            ("attempt-timeout-ms", 250, whole(1, MAX_MS),
             "how long to wait for a reply before the next attempt, in milliseconds"),
            ("deadline-ms", 10000, whole(1, MAX_MS),
             "how long a call may take with all its attempts, in milliseconds"),
            ("backoff-ms", 30, whole(1, MAX_MS),
             "the longest first wait between attempts, in milliseconds"),
            ("backoff-cap-ms", None, whole(1, MAX_MS),
             "the longest wait between attempts, in milliseconds; 500, or --backoff-ms if larger"),
            ("seed", None, whole(0, (1 << 64) - 1),
             "seed of the jitter, to make it repeat; ids are always random")):
        parser.add_argument(f"--{name}", type=parse_number, default=default, metavar="N", help=text)
    parser.add_argument("--factor", type=factor, default=2.0, metavar="F",
                        help="by how much each wait is longer than the one before")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    args = parser.parse_args()
    if args.backoff_cap_ms is None:
        args.backoff_cap_ms = max(500, args.backoff_ms)
    if args.backoff_ms > args.backoff_cap_ms:
        parser.error(f"--backoff-ms {args.backoff_ms} is larger than "
                     f"--backoff-cap-ms {args.backoff_cap_ms}")
    args.tls, args.token = None, None
    try:
        if args.tls_ca:
            args.tls = ssl.create_default_context(cafile=args.tls_ca)
            if args.tls_cert:
                args.tls.load_cert_chain(args.tls_cert, args.tls_key)
        elif args.tls_cert or args.tls_key or args.tls_name:
            parser.error("--tls-cert, --tls-key and --tls-name are for TLS; expected --tls-ca, too")
        if args.token_file:
            with open(args.token_file, encoding="utf-8") as file:
                args.token = file.readline().strip()
    except UnicodeDecodeError:
        parser.error(f"--token-file {args.token_file}: it is no text; expected a token")
    except OSError as error:
        parser.error(f"--tls-ca, --tls-cert, --tls-key or --token-file: {error}")
    return args


def main():
    args = parse()
    records, counter, start = [], iter(range(args.calls)), time.monotonic()
    clients = [Client(args, None if args.seed is None else args.seed + n)
               for n in range(args.concurrency)]
    threads = [threading.Thread(target=work, args=(args, client, counter, records))
               for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.monotonic() - start
    for outcome, _, _, text in records:
        if outcome != "ok":
            print(f"first error: {text}", file=sys.stderr)
            break
    value, args.max_attempts = None, 100
    # A server that no call reached cannot be asked.
    if not records or any(outcome != "not_executed" for outcome, _, _, _ in records):
        try:
            value = clients[0].call("get", {"key": args.key})[0]["value"]
        except CallFailed as error:
            print(f"get: {error}", file=sys.stderr)
    report = summary(args, records, elapsed, sum(client.connects for client in clients), value)
    print(json.dumps(report) if args.json else "\n".join(f"{k}: {v}" for k, v in report.items()))
    sys.exit(0 if report["ok"] == report["calls"] else 1)


if __name__ == "__main__":
    main()
