"""The options of a Google Cloud Storage store: names, types and bounds.

Values come from a command line, a file or a program, so each may be a string or
already have its type. Nothing is read from the disk or the network here.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mountfs.backends._option_values import (
    between,
    calls_of,
    endpoint_of,
    seconds_of,
    switch_of,
    text_of,
)
from mountfs.storage.errors import InvalidRequest
from mountfs.storage.types import Call

SSE_CUSTOMER = "customer"
PUBLIC_ENDPOINT = "https://storage.googleapis.com"
EMULATOR_VARIABLE = "STORAGE_EMULATOR_HOST"
_BUCKET_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_SUBSCRIPTION = re.compile(r"projects/[^/]+/subscriptions/[^/]+")
_KMS_KEY = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class GcsOptions:
    """How to talk to the service, and what every write of ours carries."""

    endpoint_url: str = PUBLIC_ENDPOINT
    no_sign_request: bool = False
    """Send no credentials: for public buckets and emulators."""
    user_project: str | None = None
    """The project that pays for requests to buckets whose requester pays."""
    project: str | None = None
    """The project that new buckets belong to, if the credentials name none."""
    storage_class: str | None = None
    kms_key: str | None = None
    sse: str | None = None
    sse_customer_key_file: str | None = None
    checksums: bool = True
    """Send a CRC32C with the bytes, and compare that of what comes."""
    conditions: frozenset[Call] = frozenset(Call)
    """The calls whose preconditions the service honours; not all emulators do."""
    content_types: bool = True
    """Guess Content-Type from the name of a new object."""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 60.0
    requests_max: int = 208
    """Threads, and connections; a mount lets no more through, of all classes."""
    read_only: bool = False
    events: str | None = None
    """The subscription of Pub/Sub, of this mount alone, that tells of changes."""


def parse_options(
    options: Mapping[str, object], environ: Mapping[str, str] = os.environ
) -> GcsOptions:
    """Return the checked options. Raises `InvalidRequest` with a sentence.

    As with Google's own clients, STORAGE_EMULATOR_HOST names an emulator, which is
    asked without credentials.
    """
    known = {field.name for field in dataclasses.fields(GcsOptions)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise InvalidRequest(
            f"the store gs:// has no option {unknown[0]!r}, but"
            f" {', '.join(sorted(known))}"
        )
    given = {name: value for name, value in options.items() if value is not None}
    parsed = {
        name: _PARSERS.get(name, text_of)(name, each) for name, each in given.items()
    }
    emulator = emulator_url(environ)
    if emulator and parsed.setdefault("endpoint_url", emulator) == emulator:
        parsed["no_sign_request"] = True
    checked = GcsOptions(**parsed)  # type: ignore[arg-type]  # each parser gives its field's type
    if checked.sse_customer_key_file and checked.sse != SSE_CUSTOMER:
        raise InvalidRequest("sse_customer_key_file needs sse=customer")
    if checked.sse and checked.kms_key:
        raise InvalidRequest("kms_key and sse=customer exclude each other")
    return checked


def emulator_url(environ: Mapping[str, str]) -> str | None:
    """Return the URL that STORAGE_EMULATOR_HOST stands for, if it is set."""
    host = environ.get(EMULATOR_VARIABLE, "").rstrip("/")
    if not host:
        return None
    return host if "://" in host else f"http://{host}"


def split_url(url: str) -> tuple[str, str]:
    """Return the bucket and the root of the keys ("" or ending in `/`) of a URL.

    What follows the bucket is taken as it stands: nothing in it is percent-decoded.
    """
    scheme, separator, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "gs" or not separator or not _BUCKET_PATTERN.fullmatch(bucket):
        raise InvalidRequest(
            f"{url!r} names no bucket; write gs://BUCKET or gs://BUCKET/PREFIX"
        )
    prefix = prefix.rstrip("/")
    return bucket, f"{prefix}/" if prefix else ""


def _customer(name: str, value: object) -> str:
    if value != SSE_CUSTOMER:
        raise InvalidRequest(
            f"{name} can only be {SSE_CUSTOMER} here, not {value!r}: everything is"
            " encrypted anyway, and kms_key chooses the key"
        )
    return SSE_CUSTOMER


def _kms(name: str, value: object) -> str:
    text = text_of(name, value)
    if not _KMS_KEY.fullmatch(text):
        raise InvalidRequest(
            f"{name} must be projects/P/locations/L/keyRings/R/cryptoKeys/K,"
            f" not {text!r}"
        )
    return text


def _subscription(name: str, value: object) -> str:
    text = text_of(name, value)
    if not _SUBSCRIPTION.fullmatch(text):
        raise InvalidRequest(f"{name} must be projects/P/subscriptions/S, not {text!r}")
    return text


def _class(name: str, value: object) -> str:
    return text_of(name, value).upper()


def _endpoint(name: str, value: object) -> str:
    return endpoint_of(name, value).rstrip("/")


_PARSERS: Mapping[str, Callable[[str, object], object]] = {
    "endpoint_url": _endpoint,
    "no_sign_request": switch_of,
    "storage_class": _class,
    "kms_key": _kms,
    "sse": _customer,
    "checksums": switch_of,
    "conditions": calls_of,
    "content_types": switch_of,
    "connect_timeout_s": seconds_of,
    "read_timeout_s": seconds_of,
    "requests_max": between(1, 1024),
    "read_only": switch_of,
    "events": _subscription,
}
