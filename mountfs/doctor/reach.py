"""Whether a server answers at all, with which certificate, and what time it has there.

One connection, by the standard library alone, so that what is wrong with it has a name
of its own and is known within seconds. It blocks, and carries no credentials.
"""

import contextlib
import http.client
import os
import socket
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from mountfs.storage.diagnosis import Address, Finding, State

TIMEOUT_S = 3.0
SKEW_MAX_S = 60
SKEW_REFUSED_S = 900
"""More than this, and S3 refuses every request."""
DAY_S = 86400
SOON_DAYS = 14


class Reached(NamedTuple):
    """What one connection has told."""

    findings: list[Finding]
    is_reached: bool
    """Whether it is worth while to ask the store."""


def reach(address: Address) -> Reached:
    """Connect, and tell of the certificate and the clock."""
    parts = urlsplit(address.url)
    host = parts.hostname or ""
    if proxy := _proxy(parts):
        text = f"{host}, through the proxy {urlsplit(proxy).hostname}"
        told = Finding("endpoint", State.SKIP, f"{text}: its certificate is not seen")
        return Reached([told], is_reached=True)
    try:
        connected = socket.create_connection(_place(parts), timeout=TIMEOUT_S)
    except OSError as error:
        cure = "check the network, the name and --endpoint-url"
        text = f"no connection to {parts.netloc}: {error.strerror or error}"
        return Reached([Finding("endpoint", State.FAIL, text, cure)], is_reached=False)
    if parts.scheme != "https":
        told = _unprotected(parts, host)
        return Reached([told, *_clock(connected, parts)], is_reached=True)
    return _reach_secured(connected, parts, address)


def _proxy(parts: SplitResult) -> str | None:
    host = parts.hostname or ""
    if proxy_bypass(host):
        return None
    return getproxies_environment().get(parts.scheme)


def _place(parts: SplitResult) -> tuple[str, int]:
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _unprotected(parts: SplitResult, host: str) -> Finding:
    text = f"{parts.netloc} answers"
    if host in ("localhost", "::1") or host.startswith("127."):
        return Finding("endpoint", State.OK, text)
    text = f"{text}, without TLS: who is on the way reads and changes what is sent"
    return Finding("endpoint", State.WARN, text, "use https:// in --endpoint-url")


def _reach_secured(
    connected: socket.socket, parts: SplitResult, address: Address
) -> Reached:
    ca_file = _ca_file(address)
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        connected.close()
        text = f"the file of certificates {ca_file} cannot be used"
        cure = "correct what names it: AWS_CA_BUNDLE, ca_bundle, --dropbox-ca-file"
        told = Finding("TLS", State.FAIL, f"{text}: {error.strerror or error}", cure)
        return Reached([told], is_reached=False)
    try:
        secured = context.wrap_socket(connected, server_hostname=parts.hostname)
    except ssl.SSLCertVerificationError as error:
        connected.close()
        text = f"the certificate of {parts.netloc} is not trusted"
        cure = "name the file of its authority in AWS_CA_BUNDLE or --dropbox-ca-file"
        told = Finding("TLS", State.FAIL, f"{text}: {error.verify_message}", cure)
        return Reached([told], is_reached=False)
    except OSError as error:
        connected.close()
        text = f"{parts.netloc} does not speak TLS"
        cure = "check --endpoint-url: http:// or https://?"
        told = Finding("TLS", State.FAIL, f"{text}: {error.strerror or error}", cure)
        return Reached([told], is_reached=False)
    told = _validity(secured.getpeercert() or {}, secured.version() or "TLS")
    reached = Finding("endpoint", State.OK, f"{parts.netloc} answers")
    return Reached([reached, told, *_clock(secured, parts)], is_reached=True)


def _ca_file(address: Address) -> str | None:
    return address.ca_file or os.environ.get("SSL_CERT_FILE")


def _validity(certificate: Mapping[str, object], version: str) -> Finding:
    until = certificate.get("notAfter")
    if not isinstance(until, str):
        return Finding("TLS", State.OK, version)
    days = int((ssl.cert_time_to_seconds(until) - time.time()) // DAY_S)
    text = f"{version}, the certificate is good for {days} days"
    if days < SOON_DAYS:
        return Finding("TLS", State.WARN, text, "let its owner renew it")
    return Finding("TLS", State.OK, text)


def _clock(connected: socket.socket, parts: SplitResult) -> list[Finding]:
    """Ask for nothing in particular, and compare the Date of the answer."""
    with contextlib.closing(connected):
        connection = http.client.HTTPConnection(*_place(parts), timeout=TIMEOUT_S)
        connection.sock = connected
        began = time.time()
        try:
            connection.request("HEAD", "/", headers={"user-agent": "mountfs doctor"})
            date = connection.getresponse().getheader("date", "")
            told = parsedate_to_datetime(date or "").timestamp()
        except (OSError, http.client.HTTPException, ValueError):
            return [Finding("clock", State.SKIP, "the server tells no time")]
    # The header has whole seconds; between sending and its coming time passes, too.
    ahead_s = round(began - told)
    if abs(ahead_s) <= 1 + time.time() - began:
        return [Finding("clock", State.OK, "the same as the server's")]
    words = "ahead of" if ahead_s > 0 else "behind"
    text = f"{abs(ahead_s)} s {words} the server's"
    cure = "set the clock: `timedatectl set-ntp true`"
    if abs(ahead_s) > SKEW_REFUSED_S:
        return [Finding("clock", State.FAIL, f"{text}: requests are refused", cure)]
    state = State.WARN if abs(ahead_s) > SKEW_MAX_S else State.OK
    return [Finding("clock", state, text, cure if state is State.WARN else "")]
