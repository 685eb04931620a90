#!/usr/bin/env python3
"""A Redial client with sessions, in plain Python. Copy this file: it needs the standard library only.

PROTOCOL.md describes every step. A call is sent again, over new connections too, until its outcome is certain
or its deadline has passed. `Client.call` returns the result or raises Failed, NotExecuted or Unknown.

    session_client.py --connect 127.0.0.1:7077 --calls 100 --tokens DIR
        increments a counter and checks how much it went up; keeps a token of each call in DIR meanwhile
    session_client.py --connect 127.0.0.1:7077 --resolve DIR
        after a crash: asks what happened to the calls whose tokens are in DIR

With --tls-ca it speaks TLS; with --tls-cert and --tls-key, or with --token-file, it shows who calls.
"""

import argparse
import io
import json
import os
import queue
import random
import socket
import ssl
import struct
import sys
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable

MAX_REPLY = 16 << 20  # bytes of the largest frame that this client takes
PLAIN_RETRIES = 8.0  # seconds; a server without sessions forgets a call 10 s after it ended
now = time.monotonic


class CallError(Exception):
    """A call without a result. `id` names it; `error` is the server's error, if it sent one."""

    def __init__(self, id: str | None, error: dict | None = None) -> None:
        super().__init__(id, error)
        self.id, self.error = id, error


class Failed(CallError):
    """The call was executed, and its handler returned an error."""


class NotExecuted(CallError):
    """The call was not executed, and never will be under this id."""


class Unknown(CallError):
    """The call may have been executed. `Client.resolve(error.id)` asks, and makes the answer final."""


def call_id(session: str, number: int) -> str:
    """The UUID of version 8 that names a call of a session."""
    bits = int(session, 16)
    return str(uuid.UUID(int=(bits >> 12) << 80 | 8 << 76 | (bits & 0xFFF) << 64 | 0b10 << 62 | number))


def split_id(id: str) -> tuple[str, int] | None:
    """The session and the number in a call's id; None for any other id."""
    try:
        value = uuid.UUID(id).int if len(id) == 36 else 0
    except ValueError:
        return None
    if value >> 76 & 0xF != 8 or value >> 62 & 3 != 0b10:
        return None
    return f"{value >> 80 << 12 | value >> 64 & 0xFFF:015x}", value & (1 << 62) - 1


def datum(error: dict, name: str) -> Any:
    """A member of an error's `data`."""
    data = error.get("data")
    return data.get(name) if isinstance(data, dict) else None


def executed_of(error: dict, is_plain: bool = False) -> str:
    """Whether the call that was answered so was executed: "yes", "no" or "unknown"."""
    if not is_plain and datum(error, "executed") in ("yes", "no", "unknown"):
        return datum(error, "executed")
    code = error["code"]
    if code in (-32700, -32600, -32601, -32602):
        return "no"
    return "yes" if code in (-32603, -32000) or not -32768 <= code <= -32000 else "unknown"


def unmarked(error: dict) -> dict:
    """The error as the handler gave it, if it is a handler's and the server has marked it."""
    if datum(error, "executed") != "yes" or datum(error, "detail") is not None:
        return error
    own = {name: value for name, value in error.items() if name != "data"}
    return {**own, "data": error["data"]["data"]} if "data" in error["data"] else own


def request(id: str | None, method: str, params: str, redial: dict | None = None) -> str:
    """One request as JSON. `params` is JSON already: every attempt of a call sends the same bytes."""
    text = f'"method":{json.dumps(method)},"params":{params}'
    text = f'"id":{json.dumps(id)},{text}' if id else text
    return '{"jsonrpc":"2.0",' + text + (f',"redial":{json.dumps(redial)}' if redial else "") + "}"


def backoff(attempt: int) -> float:
    return random.uniform(0, min(2.0, 0.05 * 2 ** (attempt - 1)))


def sleep(pause: float, deadline: float) -> None:
    time.sleep(max(0.0, min(pause, deadline - now())))


class Tls(io.RawIOBase):
    """TLS over a socket, for a thread that reads and one that writes: an SSL object takes one at a time."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, name: str) -> None:
        self.socket, self.lock = connection, threading.Lock()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self._step(self.tls.do_handshake)

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        while True:
            with self.lock:
                try:
                    return step(*args)
                except ssl.SSLWantReadError:
                    pass
                finally:
                    if data := self.outgoing.read():
                        self.socket.sendall(data)
            data = self.socket.recv(1 << 16)  # without the lock
            with self.lock:
                if not self.incoming.write(data):
                    self.incoming.write_eof()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        return self._step(self.tls.read, len(buffer), buffer)

    def sendall(self, data: bytes) -> None:
        self._step(self.tls.write, data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def settimeout(self, seconds: float | None) -> None:
        self.socket.settimeout(seconds)

    def shutdown(self, how: int) -> None:
        self.socket.shutdown(how)

    def close(self) -> None:
        self.socket.close()
        super().close()


@dataclass(eq=False)
class Session:
    """The numbers of one session, and which of them are acknowledged."""

    id: str
    table: str  # the server's table of calls
    window: int
    max_frame: int
    next: int = 0
    watermark: int = 0  # the lowest number that is not acknowledged
    acked: set[int] = field(default_factory=set)  # the numbers above it that are
    sent: int = 0  # how many acknowledgements were sent on this connection

    def acknowledge(self, number: int) -> None:
        if number >= self.watermark:
            self.acked.add(number)
        while self.watermark in self.acked:
            self.acked.remove(self.watermark)
            self.watermark += 1

    def acknowledged(self) -> int:
        return self.watermark + len(self.acked)

    def ack_params(self) -> dict[str, Any]:
        above: list[list[int]] = []
        for number in sorted(self.acked):
            if above and above[-1][1] == number:
                above[-1][1] += 1
            else:
                above.append([number, number + 1])
        return {"session": self.id, "ack": self.watermark, "above": above}


class SessionLost(Exception):
    """The session is gone, and the call has no open attempt: it may move to the next session."""


@dataclass(eq=False)
class Call:
    """One call, and its attempts that are open: neither answered nor refused."""

    method: str
    params: str
    save: Callable[[dict], None] | None
    is_query: bool = False  # it has no effect, so any id will do
    session: Session | None = None  # none yet, or it is a plain call
    id: str = ""
    attempt: int = 0
    open: set[int] = field(default_factory=set)
    not_before: float = 0.0  # when the server wants the next attempt
    final: bool = False  # no further attempt


class Client:
    """Makes one call at a time. Give each thread a client of its own.

    With `tls` the server's certificate has to be for `tls_name`, or else for the server's host. `token` gives the
    token that shows who calls, anew for each connection.
    """

    def __init__(self, server: str, attempt_timeout: float = 1.0, max_attempts: int = 20,
                 tls: ssl.SSLContext | None = None, tls_name: str | None = None,
                 token: Callable[[], str] | None = None) -> None:
        host, port = server.rsplit(":", 1)
        self.address = (host.strip("[]"), int(port))
        self.attempt_timeout, self.max_attempts = attempt_timeout, max_attempts
        self.tls, self.tls_name, self.token = tls, tls_name or self.address[0], token
        self.refusal: dict | None = None  # what the server said to the token
        self.trouble: OSError | None = None  # why there is no connection
        self.socket: socket.socket | Tls | None = None
        self.attached = self.plain = False  # what the hello on this connection was answered
        self.session: Session | None = None
        self.no_room_until = 0.0  # when the server wants to be asked for a session again, having none now
        self.calling, self.inbox = "", []  # replies to the current call that came while another was awaited
        self.asked, self.heard = 0, 0.0
        self.budget, self.budget_at = 100.0, now()
        self.lock = threading.RLock()  # against `_idle`
        self.timer: threading.Timer | None = None

    def call(self, method: str, params: Any = None, timeout: float = 10.0,
             save: Callable[[dict], None] | None = None) -> Any:
        """Calls `method`. Returns its result, or raises Failed, NotExecuted or Unknown.

        `save` gets a token, {"id", "method", "params"}, before the first byte is sent, and another one if the
        call moves to another session. Such a call is the caller's to acknowledge: `acknowledge(token["id"])`.
        """
        return self._call(Call(method, json.dumps(params, allow_nan=False), save), timeout)

    def query(self, method: str, params: Any = None, timeout: float = 10.0) -> Any:
        """As `call`, of a method without effect. It waits for no session where the server has none to give now, as
        when its disk is full.
        """
        return self._call(Call(method, json.dumps(params, allow_nan=False), None, is_query=True), timeout)

    def _call(self, call: Call, timeout: float) -> Any:
        deadline = now() + timeout
        with self.lock:
            self.budget = min(100.0, self.budget + 0.2)
            while True:
                try:
                    return self._run(replace(call, open=set()), deadline)
                except SessionLost:
                    continue

    def resolve(self, id: str, timeout: float = 10.0) -> Any:
        """What happened to a call, also of an earlier process: returns or raises as `call` would.

        A call that was not executed is fenced. Nothing is acknowledged: do that once the answer is kept.
        """
        reply = self._insist("rpc.resolve", {"id": id}, timeout)
        if not reply or "error" in reply:
            raise Unknown(id, reply and reply["error"])
        answer = reply["result"] if isinstance(reply["result"], dict) else {}
        if answer.get("state") == "never":
            raise NotExecuted(id)
        if answer.get("state") != "done" or not ("result" in answer or isinstance(answer.get("error"), dict)):
            raise Unknown(id)  # no answer to this
        if "error" in answer:
            raise (Unknown if executed_of(answer["error"]) == "unknown" else Failed)(id, unmarked(answer["error"]))
        return answer["result"]

    def cancel(self, id: str, timeout: float = 2.0) -> str:
        """Cancels a call, of any client, that hasn't begun: "never"; or else "running", "done", "unknown"."""
        reply = self._insist("rpc.cancel", {"id": id}, timeout)
        return reply["result"]["state"] if reply and "result" in reply else "unknown"

    def acknowledge(self, id: str, timeout: float = 2.0) -> None:
        """Lets the server forget a call, also of an earlier process."""
        session, number = split_id(id) or ("", 0)
        with self.lock:
            if self.session and session == self.session.id:
                self._done(self.session, number)
            elif session:
                self._insist("rpc.ack", {"session": session, "above": [[number, number + 1]]}, timeout)

    def close(self) -> None:
        """Acknowledges what the caller has, so that the server keeps nothing in vain, and hangs up."""
        with self.lock:
            if self.session and self.session.acknowledged():
                self._insist("rpc.ack", self.session.ack_params(), 2.0)
            if self.session and self.session.watermark == self.session.next:  # no call of it can be asked for
                self._send(request(None, "rpc.goodbye", json.dumps({"session": self.session.id})))
            self.session = None
            self._drop()

    # One call in one session

    def _run(self, call: Call, deadline: float) -> Any:
        last = deadline  # for another attempt
        while not call.final and call.attempt < self.max_attempts and now() < last:
            if not self._attempt(call, deadline):
                break
            if not call.session and not call.is_query and call.attempt == 1:
                last = min(last, now() + PLAIN_RETRIES)
            sent = now()
            reply = self._listen(call, min(deadline, sent + self.attempt_timeout))
            if not reply and self.socket and self.heard < sent and not call.final:
                if not self._ask("rpc.ping", {}, self.attempt_timeout):
                    self._drop()  # a dead connection, not a busy server
            if reply := reply or self._pause(call, deadline):
                return reply["result"]
        if reply := self._listen(call, deadline) if call.open else None:
            return reply["result"]
        if call.open:
            raise Unknown(call.id, self.refusal) from self.trouble
        self._end(call)
        raise NotExecuted(call.id, self.refusal) from self.trouble

    def _attempt(self, call: Call, deadline: float) -> bool:
        """Sends another attempt. False if the call can't be sent in time, or at all."""
        if not self._ready(call, deadline):
            return False
        redial = {"attempt": call.attempt + 1, "timeout_ms": max(0, int((deadline - now()) * 1000))}
        if call.session:
            redial["ack"] = call.session.watermark
        text = request(call.id, call.method, call.params, redial)
        if call.session and len(text) > call.session.max_frame:
            return False
        call.attempt += 1
        call.open.add(call.attempt)  # before the first byte is written
        self._send(text)
        return True

    def _listen(self, call: Call, until: float) -> dict | None:
        """The reply with the result. None at `until`, or earlier if another attempt is due."""
        while reply := self._receive(call.id, until):
            if "result" in reply:
                self._end(call)
                return reply
            if self._error(call, reply):
                break
        return None

    def _pause(self, call: Call, deadline: float) -> dict | None:
        """Waits until the next attempt may be sent. A late reply counts."""
        pause = now() + max(backoff(call.attempt), self._retry_delay())
        while not call.final and now() < (until := min(deadline, max(pause, call.not_before))):
            if not self.socket:
                sleep(until - now(), deadline)
            elif reply := self._listen(call, until):
                return reply
        return None

    def _error(self, call: Call, reply: dict) -> bool:
        """Applies an error to the call; raises if that ends it. True if another attempt is asked for."""
        error, executed = reply["error"], executed_of(reply["error"], self.plain)
        if executed == "yes":
            self._end(call)
            raise Failed(call.id, error if self.plain else unmarked(error))
        if executed == "unknown":
            if call.session and datum(error, "unknown_session") == call.session.id:
                self._lose_session(call)
            if error["code"] in (-32007, -32008):  # nothing more can be learned
                self._end(call)
            raise Unknown(call.id, error)
        redial = reply.get("redial")
        refused = redial.get("attempt") if isinstance(redial, dict) else max(call.open, default=0)
        if refused not in call.open:
            return False  # a copy of an attempt that is closed already
        call.open.remove(refused)
        if error["code"] in (-32001, -32006) and not call.final:
            call.not_before = now() + (datum(error, "retry_after_ms") or 0) / 1000
            if error["code"] == -32006 and not call.open and not datum(error, "retry_after_ms"):
                self._drop()
            return True
        if error["code"] == -32007 or not call.open:
            self._end(call)
            raise NotExecuted(call.id, error)
        call.final = True
        return False

    def _end(self, call: Call) -> None:
        if call.session and not call.save:
            self._done(call.session, split_id(call.id)[1])

    def _retry_delay(self) -> float:
        """Bounds the retries of all calls together: 20 % of the calls, and 10 a second."""
        self.budget = min(100.0, self.budget + 10 * (now() - self.budget_at)) - 1
        self.budget_at = now()
        return max(0.0, -self.budget / 10)

    # Sessions

    def _ready(self, call: Call, deadline: float) -> bool:
        """Attaches the connection, and names the call. False if there was no time for it."""
        self._receive("", now())  # notices a lost connection before it is written to
        failures, session = 0, self.session
        if session and not call.id:
            if session.next - session.sent >= session.window / 2:
                self._send_acks()
            if session.next - session.acknowledged() >= session.window / 2:  # held by unknown calls
                self.session, self.attached = None, False
        while not self.attached and not self.plain:
            if not self._connect(deadline):
                return False
            if call.is_query and now() < self.no_room_until:
                break
            session, wait = self.session, min(self.attempt_timeout * (1 + failures), deadline - now())
            reply = self._ask("rpc.hello", {"session": session.id} if session else {}, wait) or {}
            hello, error = reply.get("result"), reply.get("error", {})
            opened = hello.get("session") if isinstance(hello, dict) else None
            if isinstance(opened, str) and (not session or (opened, hello.get("table")) == (session.id, session.table)):
                self.attached = True
                self.session = session or Session(opened, *map(hello.get, ("table", "max_in_flight", "max_frame")))
                self._send_acks()  # on the last connection they may have been lost
            elif call.is_query and not session and datum(error, "retry_after_ms"):  # no room now
                self.no_room_until = now() + datum(error, "retry_after_ms") / 1000
            elif not reply or error.get("code") in (-32001, -32006):
                failures += 1
                self._drop()
                sleep(max((datum(error, "retry_after_ms") or 0) / 1000, backoff(failures)), deadline)
            elif error.get("code") == -32005:  # it doesn't know who calls
                self.refusal = error
                return False
            elif session:
                self._lose_session(call)
            else:
                self.plain = True
        if not call.id:
            call.session = self.session
            call.id = call_id(self.session.id, self.session.next) if self.session else str(uuid.uuid4())
            if self.session:
                self.session.next += 1
            self.calling, self.inbox = call.id, []
            if call.save:
                call.save({"id": call.id, "method": call.method, "params": json.loads(call.params)})
        return True

    def _lose_session(self, call: Call) -> None:
        self.session, self.attached = None, False
        if call.session:
            raise Unknown(call.id) if call.open else SessionLost

    def _done(self, session: Session, number: int) -> None:
        session.acknowledge(number)
        if not self.timer:
            self.timer = threading.Timer(0.02, self._idle)
            self.timer.daemon = True
            self.timer.start()

    def _idle(self) -> None:
        with self.lock:  # after the call that is being made
            self.timer = None
            if self.attached and self.session and self.session.acknowledged() > self.session.sent:
                self._send_acks()

    def _send_acks(self) -> None:
        self.session.sent = self.session.acknowledged()
        if self.session.sent:
            self._send(request(None, "rpc.ack", json.dumps(self.session.ack_params())))

    # Connections

    def _connect(self, deadline: float) -> bool:
        """False if there was no time for it, or the server refuses the token."""
        failures, self.refusal, self.trouble = 0, None, None
        while not self.socket and not self.refusal and now() < deadline:
            try:
                self.socket = self._open(min(5.0, deadline - now()))
                self.replies: queue.Queue[Any] = queue.Queue()
                threading.Thread(target=self._read, args=(self.socket, self.replies), daemon=True).start()
                if self.token:
                    self._authenticate(deadline)
            except OSError as error:
                self._drop()
                failures, self.trouble = failures + 1, error
                sleep(backoff(failures), deadline)
        return self.socket is not None

    def _open(self, timeout: float) -> "socket.socket | Tls":
        connection = socket.create_connection(self.address, timeout)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = Tls(connection, self.tls, self.tls_name) if self.tls else connection
            stream.settimeout(None)
            return stream
        except BaseException:
            connection.close()
            raise

    def _authenticate(self, deadline: float) -> None:
        """Shows the token. Nothing else is answered before that."""
        reply = self._ask("rpc.auth", {"token": self.token()}, min(5.0, deadline - now()))
        if reply and "error" in reply and reply["error"]["code"] not in (-32001, -32006):
            self.refusal = reply["error"]
            self._drop()
        elif not reply or "error" in reply:
            raise OSError("no answer to the token")

    def _drop(self) -> None:
        if self.socket:
            try:
                self.socket.shutdown(socket.SHUT_RDWR)  # ends the thread that reads, which closes it
            except OSError:
                pass
        self.socket, self.attached, self.plain = None, False, False

    def _send(self, text: str) -> None:
        data = text.encode()
        try:
            if self.socket:
                self.socket.sendall(struct.pack(">I", len(data)) + data)
        except OSError:
            self._drop()

    def _read(self, connection: socket.socket | Tls, replies: queue.Queue) -> None:
        """Reads frames until the connection ends, in a thread."""
        try:
            with connection.makefile("rb") as stream:
                while len(header := stream.read(4)) == 4:
                    (size,) = struct.unpack(">I", header)
                    if not 0 < size <= MAX_REPLY:
                        break
                    body = stream.read(size)
                    self.heard = now()
                    replies.put(json.loads(body))
        except (OSError, ValueError):
            pass  # cut off, or not JSON
        finally:
            connection.close()
            replies.put(None)

    def _receive(self, id: str, until: float) -> dict | None:
        """The next reply to `id`; None when `until` has passed, or the connection is lost."""
        if id == self.calling and self.inbox:
            return self.inbox.pop(0)
        while self.socket:
            try:
                reply = self.replies.get(timeout=max(0.0, until - now()))
            except queue.Empty:
                return None
            if reply is None:
                self._drop()
            elif isinstance(reply, dict) and ("result" in reply or isinstance(reply.get("error"), dict)):
                if reply.get("id") == id:
                    return reply
                if reply.get("id") == self.calling:
                    self.inbox.append(reply)
        return None

    def _ask(self, method: str, params: dict, timeout: float) -> dict | None:
        """The reply to one of the `rpc.*` methods; None if it does not come in time."""
        self.asked += 1
        self._send(request(f"ask-{self.asked}", method, json.dumps(params)))
        return self._receive(f"ask-{self.asked}", now() + timeout)

    def _insist(self, method: str, params: dict, timeout: float) -> dict | None:
        """As `_ask`, on one connection after the other until there is an answer, or the time is up."""
        deadline, failures, reply = now() + timeout, 0, None
        with self.lock:
            while now() < deadline and self._connect(deadline):
                wait = min(self.attempt_timeout * (1 + failures), deadline - now())
                reply = self._ask(method, params, wait) or reply
                if reply and ("result" in reply or reply["error"]["code"] not in (-32001, -32006)):
                    return reply
                failures += 1
                self._drop()
                sleep(backoff(failures), deadline)
        return reply


# The command line


class Tokens:
    """The token of a call, in a file until the call's outcome is certain."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.id = folder, ""

    def save(self, token: dict) -> None:
        self.forget()
        self.id, path = token["id"], self.folder / token["id"]
        with open(path.with_suffix(".new"), "w") as file:
            json.dump(token, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, path.with_suffix(".json"))

    def forget(self) -> str:
        """Removes the token. Returns the call's id, if there was one."""
        id, self.id = self.id, ""
        if id:
            (self.folder / id).with_suffix(".json").unlink()
        return id


def increment(client: Client, key: str, timeout: float, folder: Path | None) -> str:
    """One increment: "once", or "unknown", or "not executed" if there was no time for it."""
    deadline, outcome, tokens = now() + timeout, "not executed", Tokens(folder)
    while outcome == "not executed" and now() < deadline:
        id = ""
        try:
            try:
                save = tokens.save if folder else None
                client.call("inc", {"key": key, "delta": 1}, deadline - now(), save)
            except Unknown as unknown:
                id = unknown.id
                client.resolve(id, timeout)
            outcome = "once"
        except NotExecuted as refused:
            if refused.error and refused.error["code"] == -32005:  # it doesn't know who calls
                deadline = 0.0
        except Unknown:
            outcome = "unknown"
        if outcome != "unknown" and (id := tokens.forget() or id):
            client.acknowledge(id)
    return outcome


def get(client: Client, key: str, timeout: float) -> int:
    while True:
        try:
            return client.query("get", {"key": key}, timeout)["value"]
        except Unknown:
            continue  # a query: it does no harm to ask again


class Progress:
    """A line on stderr that counts the calls that have ended, if stderr is a terminal."""

    def __init__(self, calls: int) -> None:
        self.calls, self.ended, self.written = calls, 0, 0.0
        self.is_shown, self.lock = sys.stderr.isatty(), threading.Lock()

    def one_more(self) -> None:
        with self.lock:
            self.ended += 1
            if self.is_shown and (now() - self.written > 0.1 or self.ended == self.calls):
                self.written = now()
                print(f"\r{self.ended} of {self.calls} calls", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.is_shown and self.ended:
            print(file=sys.stderr)


def client_of(args: argparse.Namespace) -> Client:
    return Client(args.connect, args.attempt_timeout, tls=args.tls, tls_name=args.tls_name, token=args.token)


def count(args: argparse.Namespace) -> int:
    progress = Progress(args.calls)

    def work(calls: int) -> Counter[str]:
        client, outcomes = client_of(args), Counter()
        for _ in range(calls):
            outcomes[increment(client, args.key, args.timeout, args.tokens)] += 1
            progress.one_more()
        client.close()
        return outcomes

    reader = client_of(args)
    before = get(reader, args.key, args.timeout)
    with ThreadPoolExecutor(args.threads) as pool:
        shares = [len(range(thread, args.calls, args.threads)) for thread in range(args.threads)]
        outcomes = sum(pool.map(work, shares), Counter())
    progress.end()
    rise = get(reader, args.key, args.timeout) - before
    reader.close()
    print(json.dumps({"calls": args.calls, "rise": rise, **outcomes}))
    return 0 if args.calls == outcomes["once"] == rise else 1


def resolve(args: argparse.Namespace) -> int:
    client, uncertain = client_of(args), 0
    for path in sorted(args.resolve.glob("*.json")):
        id = path.stem
        try:
            print(f"{id}: executed, {json.dumps(client.resolve(id, args.timeout))}")
        except Failed as failed:
            print(f"{id}: executed, and failed: {json.dumps(failed.error)}")
        except NotExecuted:
            print(f"{id}: not executed, and never will be")
        except Unknown as unknown:
            print(f"{id}: unknown: {json.dumps(unknown.error)}")
            uncertain += 1
            continue
        path.unlink()
        client.acknowledge(id)
    client.close()
    return 1 if uncertain else 0


def within(kind: type, least: float, most: float) -> Callable[[str], Any]:
    """A parser of numbers in a range, which NaN is not."""

    def parse(text: str) -> Any:
        try:
            if least <= (number := kind(text)) <= most:
                return number
        except ValueError:
            pass
        name = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"expected {name} from {least} to {most}")

    return parse


def address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if host and port.isdecimal() and 1 <= int(port[:6]) <= 65535:
        return text
    raise argparse.ArgumentTypeError("expected HOST:PORT, with a port from 1 to 65535")


def show_doors(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Reads what TLS and the token need."""
    args.tls = args.token = None
    try:
        if args.tls_ca:
            args.tls = ssl.create_default_context(cafile=args.tls_ca)
            if args.tls_cert:
                args.tls.load_cert_chain(args.tls_cert, args.tls_key)
        elif args.tls_cert or args.tls_key or args.tls_name:
            parser.error("--tls-cert, --tls-key and --tls-name are for TLS; expected --tls-ca, too")
        if args.token_file:
            read_token = lambda: args.token_file.read_text(encoding="utf-8")
            read_token()  # now, so that a file that isn't there is said at once
            args.token = lambda: (read_token().splitlines() or [""])[0].strip()
    except UnicodeDecodeError:
        parser.error(f"--token-file {args.token_file}: it is no text; expected a token")
    except OSError as error:
        parser.error(f"--tls-ca, --tls-cert, --tls-key or --token-file: {error}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Increments a counter, and checks how much it went up.",
                                     epilog="Each lost reply costs its call an --attempt-timeout. Where the server "
                                     "answers within milliseconds and replies are lost, --attempt-timeout 0.1 and "
                                     "more --threads make it quicker.",
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--connect", type=address, default="127.0.0.1:7077", metavar="HOST:PORT",
                        help="the server's address")
    parser.add_argument("--calls", type=within(int, 0, 10_000_000), default=100, metavar="N",
                        help="how many increments")
    parser.add_argument("--threads", type=within(int, 1, 1024), default=4, metavar="N",
                        help="how many clients make them")
    parser.add_argument("--key", default="k", help="the name of the counter")
    parser.add_argument("--timeout", type=within(float, 1, 86_400), default=20.0, metavar="S",
                        help="the deadline of each increment")
    parser.add_argument("--attempt-timeout", type=within(float, 0.01, 86_400), default=1.0, metavar="S",
                        help="how long to wait for a reply before the next attempt")
    parser.add_argument("--tokens", type=Path, metavar="DIR",
                        help="keep a token of each call in this folder while its outcome is not certain")
    parser.add_argument("--resolve", type=Path, metavar="DIR",
                        help="make no calls: ask what happened to those whose tokens are in this folder")
    parser.add_argument("--tls-ca", metavar="FILE",
                        help="speak TLS, with a server that one of these authorities has signed (PEM)")
    parser.add_argument("--tls-cert", metavar="FILE", help="show this certificate to the server (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="the certificate's private key (PEM)")
    parser.add_argument("--tls-name", metavar="NAME",
                        help="the name that the server's certificate has to be for, if not that of --connect")
    parser.add_argument("--token-file", type=Path, metavar="FILE",
                        help="show the token in this file, which is read again for each connection")
    args = parser.parse_args()
    show_doors(parser, args)
    if args.tokens:
        args.tokens.mkdir(parents=True, exist_ok=True)
    try:
        return resolve(args) if args.resolve else count(args)
    except NotExecuted as refused:
        why = refused.error and (datum(refused.error, "detail") or refused.error["message"])
        print(f"not executed: {why or refused.__cause__ or 'no time'}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
