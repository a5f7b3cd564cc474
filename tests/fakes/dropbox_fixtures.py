"""The fake Dropbox as a pytest fixture, with a certificate of its own.

`dropbox_server` is fresh for each test, `dropbox_shared` lives as long as the session.
"""

import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mountfs.backends.dropbox_tokens import Credentials, save
from tests.fakes.dropbox_server import DropboxServer


def make_certificate(directory: Path, *, days: int = 2) -> Path:
    """Return a file with a key and a certificate for 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake Dropbox")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "dropbox.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def options_of(server: DropboxServer) -> dict[str, object]:
    """Return the options that open a store there."""
    return {
        "endpoint": server.url,
        "ca_file": str(server.certificate),
        "access_token": server.tokens.new_access_token(),
    }


def mount_options_of(server: DropboxServer, directory: Path) -> tuple[str, ...]:
    """Return the options that mount it, with a refresh token as users have it."""
    token_file = directory / "dropbox.json"
    save(token_file, Credentials("fakekey", "refresh-0"))
    return (
        f"--dropbox-endpoint={server.url}",
        f"--dropbox-ca-file={server.certificate}",
        f"--dropbox-token-file={token_file}",
    )


@pytest.fixture(scope="session")
def dropbox_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of the fakes of this session."""
    return make_certificate(tmp_path_factory.mktemp("dropbox"))


@pytest.fixture(scope="session")
def dropbox_shared(dropbox_certificate: Path) -> Iterator[DropboxServer]:
    """A fake that lives as long as the session."""
    with DropboxServer(dropbox_certificate) as server:
        yield server


@pytest.fixture
def dropbox_server(dropbox_certificate: Path) -> Iterator[DropboxServer]:
    """A fake for one test."""
    with DropboxServer(dropbox_certificate) as server:
        yield server
