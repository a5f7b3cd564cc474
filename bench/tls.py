"""TLS for the store under test: an authority of its own, made and thrown away."""

import socket
import subprocess
from pathlib import Path


class Tls:
    """A certificate for 127.0.0.1, the authority that signed it, and a port."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.ca_file = directory / "ca.pem"
        key, certificate = directory / "key.pem", directory / "certificate.pem"
        request, ca_key = directory / "request.pem", directory / "ca-key.pem"
        names = directory / "names"
        names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        new_key = ("-newkey", "rsa:2048", "-nodes")
        _openssl(
            *("req", "-x509", *new_key, "-days", "2", "-subj", "/CN=bench authority"),
            *("-keyout", ca_key, "-out", self.ca_file),
        )
        _openssl(
            *("req", *new_key, "-subj", "/CN=127.0.0.1"),
            *("-keyout", key, "-out", request),
        )
        _openssl(
            *("x509", "-req", "-in", request, "-days", "2", "-extfile", names),
            *("-CA", self.ca_file, "-CAkey", ca_key, "-CAcreateserial"),
            *("-out", certificate),
        )
        with socket.socket() as probe:  # nobody else takes it in the next second
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.server_options = (
            f"-s3.port.https={self.port}",
            f"-s3.cert.file={certificate}",
            f"-s3.key.file={key}",
        )


def _openssl(*words: str | Path) -> None:
    command = ["openssl", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
