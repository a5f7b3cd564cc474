"""The options of an S3 store: their names, types and bounds, checked in one place.

Values come from a command line, a file or a program, so each may be a string or
already have its type. Nothing is read from the disk or the network here.
"""

import base64
import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

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
SSE_CHOICES = ("AES256", "aws:kms", "aws:kms:dsse", SSE_CUSTOMER)
AddressingStyle = Literal["auto", "path", "virtual"]
ADDRESSING_STYLES = ("auto", "path", "virtual")
LIGHT = "light"
CLIENTS = (LIGHT, "boto3")
COPY_SIZE_MAX = 5 << 30
QUEUE = (
    r"sqs://(?:(?P<region>[a-z]{2}[a-z0-9-]+)/(?P<account>[0-9]{12})/)?"
    r"(?P<name>[A-Za-z0-9_-]{1,80}(?:\.fifo)?)"
)
"""What names a queue: one of the account and the region, or of others."""
_BUCKET_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """How to talk to one S3 service, and what every write of ours carries."""

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    no_sign_request: bool = False
    request_payer: bool = False
    expected_bucket_owner: str | None = None
    addressing_style: AddressingStyle = "auto"
    storage_class: str | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    sse_kms_context: str | None = None
    """Base64 of a JSON object, as S3 wants it."""
    sse_bucket_key: bool = False
    sse_customer_key_file: str | None = None
    checksums: bool = True
    """Off for services without the newer checksums; Content-MD5 where one must be."""
    equal_parts: bool = False
    """The service demands that all parts but the last have one size."""
    conditions: frozenset[Call] = frozenset(Call)
    """The calls whose If-Match and If-None-Match the service honours."""
    content_types: bool = True
    """Guess Content-Type from the name of a new object."""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 60.0
    requests_max: int = 208
    """Threads, and connections; a mount lets no more through, of all classes."""
    read_only: bool = False
    events: str | None = None
    """The queue of SQS, of this mount alone, that tells of changes."""
    copy_size_max: int = COPY_SIZE_MAX
    s3_client: str = LIGHT
    """Who sends the hot operations: the data plane of mountfs, or the SDK."""


def parse_options(options: Mapping[str, object]) -> S3Options:
    """Return the checked options. Raises `InvalidRequest` with a sentence."""
    known = {field.name for field in dataclasses.fields(S3Options)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise InvalidRequest(
            f"the S3 store has no option {unknown[0]!r}, but {', '.join(sorted(known))}"
        )
    given = {name: value for name, value in options.items() if value is not None}
    parsed = {
        name: _PARSERS.get(name, text_of)(name, value) for name, value in given.items()
    }
    checked = S3Options(**parsed)  # type: ignore[arg-type]  # each parser gives its field's type
    _check_encryption(checked)
    if checked.events and checked.no_sign_request:
        raise InvalidRequest("events needs credentials, and no_sign_request sends none")
    return checked


def split_url(url: str) -> tuple[str, str]:
    """Return the bucket and the root of the keys ("" or ending in `/`) of a URL.

    What follows the bucket is taken as it stands: nothing in it is percent-decoded.
    """
    scheme, separator, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not separator or not _BUCKET_PATTERN.fullmatch(bucket):
        raise InvalidRequest(
            f"{url!r} names no bucket; write s3://BUCKET or s3://BUCKET/PREFIX"
        )
    prefix = prefix.rstrip("/")
    return bucket, f"{prefix}/" if prefix else ""


def _check_encryption(options: S3Options) -> None:
    kms_only = {
        "sse_kms_key_id": options.sse_kms_key_id,
        "sse_kms_context": options.sse_kms_context,
        "sse_bucket_key": options.sse_bucket_key,
    }
    is_kms = options.sse is not None and options.sse.startswith("aws:kms")
    for name, value in kms_only.items():
        if value and not is_kms:
            raise InvalidRequest(f"{name} needs sse=aws:kms or sse=aws:kms:dsse")
    if options.sse_customer_key_file and options.sse != SSE_CUSTOMER:
        raise InvalidRequest("sse_customer_key_file needs sse=customer")


def _choice(choices: tuple[str, ...]) -> Callable[[str, object], str]:
    def parse(name: str, value: object) -> str:
        if value not in choices:
            raise InvalidRequest(
                f"{name} must be one of {', '.join(choices)}, not {value!r}"
            )
        return str(value)

    return parse


def _queue(name: str, value: object) -> str:
    text = text_of(name, value)
    if not re.fullmatch(QUEUE, text):
        raise InvalidRequest(
            f"{name} must be sqs://QUEUE or sqs://REGION/ACCOUNT/QUEUE, not {text!r}"
        )
    return text


def _kms_context(name: str, value: object) -> str:
    """Take a mapping, its JSON text, or `name=value,name=value`."""
    pairs = value
    if isinstance(value, str):
        pairs = _pairs_of_text(name, value)
    if not isinstance(pairs, Mapping) or not all(
        isinstance(item, str) for pair in pairs.items() for item in pair
    ):
        raise InvalidRequest(f"{name} must map names to texts, not {value!r}")
    return base64.b64encode(json.dumps(dict(pairs)).encode()).decode()


def _pairs_of_text(name: str, text: str) -> object:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise InvalidRequest(f"{name} is not JSON: {error}") from error
    return dict(pair.partition("=")[::2] for pair in text.split(","))


_PARSERS: Mapping[str, Callable[[str, object], object]] = {
    "endpoint_url": endpoint_of,
    "no_sign_request": switch_of,
    "request_payer": switch_of,
    "addressing_style": _choice(ADDRESSING_STYLES),
    "sse": _choice(SSE_CHOICES),
    "sse_kms_context": _kms_context,
    "sse_bucket_key": switch_of,
    "checksums": switch_of,
    "equal_parts": switch_of,
    "conditions": calls_of,
    "content_types": switch_of,
    "connect_timeout_s": seconds_of,
    "read_timeout_s": seconds_of,
    "requests_max": between(1, 1024),
    "read_only": switch_of,
    "events": _queue,
    "s3_client": _choice(CLIENTS),
    "copy_size_max": between(5 << 20, COPY_SIZE_MAX),
}
