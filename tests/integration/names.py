"""A small name server for tests, which counts what it is asked and may answer badly.

    server = NameServer()
    server.hosts["db.test"] = ["127.0.0.2", "fd00::2"]
    server.serials["test"] = 7                # of the zone's SOA record
    settings = {"resolv_conf": server.write_resolv_conf(folder)}

It listens on port 53 of a loopback address of its own, UDP and TCP, since a resolv.conf names
no ports: to start it takes root's rights, or net.ipv4.ip_unprivileged_port_start = 53 or less.
"""

import os
import random
import socket
import struct
import threading

PORT = 53
A, CNAME, SOA, AAAA = 1, 5, 6, 28
KINDS = {A: "A", CNAME: "CNAME", SOA: "SOA", AAAA: "AAAA"}
NO_ERROR, SERVER_FAILURE, NO_SUCH_NAME = 0, 2, 3
IS_ANSWER, IS_CUT = 0x8180, 0x0200
UDP_BYTES = 512


def wire_name(name):
    labels = [label.encode("latin-1") for label in name.rstrip(".").split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def record(name, kind, content, ttl):
    return wire_name(name) + struct.pack(">HHIH", kind, 1, ttl, len(content)) + content


def read_question(packet):
    """Its number, name and kind, and the question as it stands."""
    labels, at = [], 12
    while packet[at] != 0:
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode("latin-1"))
        at += 1 + packet[at]
    number = struct.unpack_from(">H", packet)[0]
    kind = struct.unpack_from(">H", packet, at + 1)[0]
    return number, ".".join(labels), kind, packet[12 : at + 5]


class NameServer:
    """Tables and switches may be changed while it runs."""

    def __init__(self):
        self.hosts = {}  # name: addresses, [] = it exists but has none
        self.aliases = {}  # name: name
        self.serials = {}  # zone: serial
        self.ttl = 600
        self.is_silent = False
        self.failing = None  # a response code for everything
        self.twist = None  # twist(answer, question): the packets to be sent instead
        self.asked = []  # (name, kind, "udp" or "tcp")
        self.udp, self.tcp = self.listen()
        self.address = self.udp.getsockname()[0]
        threading.Thread(target=self.serve_udp, daemon=True).start()
        threading.Thread(target=self.serve_tcp, daemon=True).start()

    @staticmethod
    def listen():
        for attempt in range(20):
            address = ".".join(["127", *(str(random.randint(1, 250)) for _ in range(3))])
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                udp.bind((address, PORT))
                tcp.bind((address, PORT))
                tcp.listen()
                return udp, tcp
            except PermissionError as error:
                raise RuntimeError(f"port 53 takes root's rights: see {__file__}") from error
            except OSError:
                if attempt == 19:
                    raise

    def write_resolv_conf(self, folder, options="retrans:300 retry:2", more=""):
        """A file that names this server alone; c-ares takes 300 ms here, then 600, to give up."""
        path = os.path.join(folder, f"resolv-{self.address}.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"nameserver {self.address}\noptions {options}\n{more}")
        os.chmod(path, 0o644)
        return path

    def count(self, name, kind=None):
        """How often it was asked for a name."""
        return sum(one[0] == name and kind in (None, one[1]) for one in self.asked)

    # Answers

    def records_of(self, name, kind):
        """Follows aliases as a recursive server does, and loops as it must not."""
        records, seen = b"", 0
        count = 0
        while name in self.aliases and seen < 20:
            seen += 1
            records += record(name, CNAME, wire_name(self.aliases[name]), self.ttl)
            count += 1
            name = self.aliases[name]
        family = {A: socket.AF_INET, AAAA: socket.AF_INET6}.get(kind)
        for address in self.hosts.get(name, []):
            if family is not None and (":" in address) == (kind == AAAA):
                records += record(name, kind, socket.inet_pton(family, address), self.ttl)
                count += 1
        if kind == SOA and name in self.serials:
            numbers = struct.pack(">IIIII", self.serials[name], 60, 60, 60, 60)
            content = wire_name("ns." + name) + wire_name("root." + name) + numbers
            records += record(name, SOA, content, self.ttl)
            count += 1
        is_known = name in self.hosts or name in self.serials
        return count, records, NO_ERROR if is_known or count > 0 else NO_SUCH_NAME

    def answer(self, packet, transport):
        """The packets to be sent for one question."""
        number, name, kind, question = read_question(packet)
        self.asked.append((name, KINDS.get(kind, str(kind)), transport))
        if self.is_silent:
            return []
        count, records, code = self.records_of(name, kind)
        if self.failing is not None:
            count, records, code = 0, b"", self.failing
        flags = IS_ANSWER | code
        if transport == "udp" and 12 + len(question) + len(records) > UDP_BYTES:
            count, records, flags = 0, b"", flags | IS_CUT
        head = struct.pack(">HHHHHH", number, flags, 1, count, 0, 0)
        whole = head + question + records
        return [whole] if self.twist is None else self.twist(whole, question)

    def serve_udp(self):
        while True:
            try:
                packet, sender = self.udp.recvfrom(4096)
                if not packet:
                    return
                for answer in self.answer(packet, "udp"):
                    self.udp.sendto(answer, sender)
            except OSError:
                return

    def serve_tcp(self):
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.serve_connection, args=(connection,), daemon=True).start()

    def serve_connection(self, connection):
        with connection:
            while len(head := connection.recv(2, socket.MSG_WAITALL)) == 2:
                packet = connection.recv(struct.unpack(">H", head)[0], socket.MSG_WAITALL)
                for answer in self.answer(packet, "tcp"):
                    connection.sendall(struct.pack(">H", len(answer)) + answer)

    def close(self):
        for one in (self.udp, self.tcp):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()
