"""Certificates for the tests of TLS, made by the openssl command.

    made = Certificates(folder)              # a CA, "ca", and another one, "other_ca"
    made.issue("server", names=["DNS:localhost", "IP:127.0.0.1"])
    made.file("server.pem"), made.file("server.key")

All are readable for the user that servers run as, and the keys for nobody else.
"""

import os
import ssl
import subprocess

import cluster as clusters

DAYS = "3"


class Certificates:
    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder)
        clusters.give_away(folder)
        for name in ("ca", "other_ca"):
            self.make_key(name)
            self.openssl(
                "req", "-x509", "-new", "-days", DAYS, "-subj", f"/CN={name}",
                "-key", self.file(f"{name}.key"), "-out", self.file(f"{name}.pem"),
            )  # fmt: skip
        self.give_away()

    def file(self, name):
        return os.path.join(self.folder, name)

    def openssl(self, *arguments):
        done = subprocess.run(
            ["openssl", *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr

    def make_key(self, name):
        self.openssl(
            "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-out", self.file(f"{name}.key"),
        )  # fmt: skip

    def issue(self, name, names=(), subject=None, by="ca"):
        """A key and a certificate, NAME.key and NAME.pem; `names` as in DNS:localhost."""
        self.make_key(name)
        request, extensions = self.file(f"{name}.csr"), self.file(f"{name}.ext")
        with open(extensions, "w", encoding="utf-8") as file:
            file.write(f"subjectAltName={','.join(names)}\n" if names else "")
        self.openssl(
            "req", "-new", "-key", self.file(f"{name}.key"), "-out", request,
            "-subj", subject or f"/CN={name}",
        )  # fmt: skip
        self.openssl(
            "x509", "-req", "-in", request, "-days", DAYS, "-extfile", extensions,
            "-CA", self.file(f"{by}.pem"), "-CAkey", self.file(f"{by}.key"), "-CAcreateserial",
            "-out", self.file(f"{name}.pem"),
        )  # fmt: skip
        self.give_away()

    def give_away(self):
        for name in os.listdir(self.folder):
            os.chmod(self.file(name), 0o600 if name.endswith(".key") else 0o644)
            clusters.give_away(self.file(name))

    def client_context(self, certificate=None, alpn=None):
        """What Python needs to connect: verifies against `ca`, not the host's name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.file("ca.pem"))
        if certificate:
            context.load_cert_chain(
                self.file(f"{certificate}.pem"), self.file(f"{certificate}.key")
            )
        if alpn:
            context.set_alpn_protocols([alpn])
        return context

    def server_context(self, certificate="server"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file(f"{certificate}.pem"), self.file(f"{certificate}.key"))
        return context
