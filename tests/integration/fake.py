"""A server that does what a test tells it to: lets in, refuses, is silent, speaks out of turn."""

import contextlib
import socket
import struct
import threading
import time

from pooler import PATIENCE
from wire import message, text0

CANCEL_CODE = 80877102
READY = message("Z", b"I")


class Puppet(threading.Thread):
    """While `mood` is "kind" it lets everybody in, behind `welcome`, and answers each query with
    nothing, but HANG, which it leaves without an answer, STALL, at which it reads no more until
    `gate` is set, and WORD, to which it says `word`. With "rude" it closes each connection, with
    "strict" it refuses the login with `refusal`, (SQLSTATE, text), once `gate` is set. `attempts`
    counts logins, `cancels` has the keys of cancel requests."""

    def __init__(self, mood="kind", refusal=("28P01", "not you"), word=b""):
        super().__init__(daemon=True)
        self.mood = mood
        self.refusal = refusal
        self.word = word
        self.welcome = b""
        self.reports = {"server_version": "15.1", "application_name": ""}
        self.gate = threading.Event()
        self.gate.set()
        self.attempts = 0
        self.cancels = []
        self.connections = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.port = self.listener.getsockname()[1]
        self.entry = f"host=127.0.0.1 port={self.port} dbname=app"
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.vanish()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                one, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=[one], daemon=True).start()

    def hang_up(self):
        """Ends the connections that it has."""
        for one in self.connections:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.connections.clear()

    def vanish(self):
        """The same, and it can be reached no more."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.hang_up()

    def say(self, words):
        """On the connection that was made last, without having been asked."""
        self.connections[-1].sendall(words)

    def wait(self, condition):
        deadline = time.monotonic() + 10 * PATIENCE
        while not condition(self):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def serve(self, one):
        with contextlib.suppress(OSError, struct.error), one, one.makefile("rb") as stream:
            (length,) = struct.unpack("!I", stream.read(4))
            packet = stream.read(length - 4)
            if struct.unpack_from("!I", packet)[0] == CANCEL_CODE:
                self.cancels.append(packet[4:])
                self.gate.wait()
                return
            self.attempts += 1
            self.gate.wait()
            if self.mood == "strict":
                fields = b"SFATAL\0C%s\0M%s\0\0" % tuple(map(str.encode, self.refusal))
                one.sendall(message("E", fields))
            if self.mood != "kind":
                return
            one.sendall(self.welcome + message("R", struct.pack("!I", 0)))
            for name, value in self.reports.items():
                one.sendall(message("S", text0(name) + text0(value)))
            one.sendall(message("K", struct.pack("!II", 1, 2)) + READY)
            self.connections.append(one)
            self.answer(one, stream)

    def answer(self, one, stream):
        status = b"I"
        while head := stream.read(5):
            text = stream.read(struct.unpack_from("!I", head, 1)[0] - 4)
            if head[:1] != b"Q" or text.startswith(b"HANG"):
                continue
            if text.startswith((b"BEGIN", b"COMMIT")):
                status = b"T" if text.startswith(b"BEGIN") else b"I"
            if text.startswith(b"STALL"):
                self.gate.wait()
            if text.startswith(b"WORD"):
                one.sendall(self.word)
            else:
                one.sendall(message("C", text0("DONE")) + message("Z", status))
