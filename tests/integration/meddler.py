"""A standby behind a man in the middle, who answers in its place or keeps what was said.

    with Meddler(standby) as meddler:
        meddler.answers["marker"] = error("ERROR", "40001", "ProcessInterrupts", "conflict")
        ...                          # a Query or Parse that contains `marker` gets that answer

Everything else, the probes too, goes to the real server and back. An answer of severity FATAL ends
the connection, and so does LOST, without a word. `hits` counts what was answered here. While
`refusal` is set, logins are refused with it, but those of the role that probes; while
`is_swallowing`, nothing passes in either direction, and nothing is closed.
"""

import contextlib
import socket
import struct
import threading

from wire import message

READY = message("Z", b"I")
LOST = b""


def error(severity, code, routine, text):
    """An ErrorResponse."""
    fields = {"S": severity, "V": severity, "C": code, "M": text, "R": routine}
    body = b"".join(key.encode() + value.encode() + b"\0" for key, value in fields.items())
    return message("E", body + b"\0")


class Meddler:
    """The port in front of `node`."""

    def __init__(self, node):
        self.node = node
        self.host = "127.0.0.1"
        self.answers = {}
        self.hits = {}
        self.refusal = None
        self.is_swallowing = False
        self.listener = socket.create_server((self.host, 0))
        self.port = self.listener.getsockname()[1]
        self.connections = []
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for one in self.connections:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                one, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=[one], daemon=True).start()

    def serve(self, client):
        self.connections.append(client)
        with contextlib.suppress(OSError, struct.error), client:
            with socket.create_connection((self.node.host, self.node.port)) as server:
                self.connections.append(server)
                back = threading.Thread(target=self.bring_back, args=[server, client], daemon=True)
                back.start()
                self.bring(client, server)
                server.shutdown(socket.SHUT_RDWR)

    def bring_back(self, server, client):
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if not self.is_swallowing:
                    client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def bring(self, client, server):
        with client.makefile("rb") as stream:
            packet = stream.read(4)
            packet += stream.read(struct.unpack("!I", packet)[0] - 4)
            if self.refusal is not None and b"user\0probe\0" not in packet:
                self.hits["login"] = self.hits.get("login", 0) + 1
                client.sendall(self.refusal)
                return
            server.sendall(packet)
            while len(head := stream.read(5)) == 5:
                data = head + stream.read(struct.unpack_from("!I", head, 1)[0] - 4)
                if self.is_swallowing:
                    continue
                answer = self.answer_to(data)
                if answer is None:
                    server.sendall(data)
                elif not self.give(client, stream, data, answer):
                    return

    def answer_to(self, data):
        if data[:1] not in (b"Q", b"P"):
            return None
        for marker, answer in self.answers.items():
            if marker.encode() in data:
                self.hits[marker] = self.hits.get(marker, 0) + 1
                return answer
        return None

    @staticmethod
    def give(client, stream, data, answer):
        """Answers in place of the server; False if the connection ends with that."""
        client.sendall(answer)
        if answer == LOST or b"SFATAL\0" in answer:
            return False
        while data[:1] not in (b"Q", b"S"):
            head = stream.read(5)
            data = head + stream.read(struct.unpack_from("!I", head, 1)[0] - 4)
        client.sendall(READY)
        return True
