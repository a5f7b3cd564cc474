"""The options of a mount: their names, how a value is read, its bounds, its help.

One table serves the command line, `-o`, the environment and the TOML file. A value
comes in as text and leaves as a plain value, or as a `UsageError`; what the values
mean together is the affair of `mountfs.config`.
"""

import dataclasses
import difflib
import grp
import ipaddress
import math
import pwd
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mountfs.errors import UsageError
from mountfs.prices import Prices, read_prices
from mountfs.storage.types import Features

MINIMUM_CACHE_SIZE = 16 << 20
MINIMUM_NAMES = 1000
MINIMUM_RATE = 10 << 10
MAXIMUM_TTL_S = 365 * 86400.0
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


S3_ALONE = frozenset({"s3"})
GS_ALONE = frozenset({"gs"})
S3_AND_GS = S3_ALONE | GS_ALONE
DROPBOX_ALONE = frozenset({"dropbox"})


class BadValue(ValueError):
    """A value that an option does not take; the text says what it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option. Without a metavar it is a switch."""

    name: str
    read: Callable[[str], object]
    help: str
    metavar: str | None = None
    is_for_store: bool = False
    """It is handed to `open_store` and means nothing to the mount."""
    store_name: str | None = None
    """Its name there, if that is another."""
    schemes: frozenset[str] = S3_ALONE
    """The stores that it means something to."""

    @property
    def field(self) -> str:
        """The name as an identifier."""
        return self.name.replace("-", "_")


def read_switch(text: str) -> bool:
    """Return whether a switch is on."""
    match text.lower():
        case "" | "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off":
            return False
        case _:
            raise BadValue("true or false")


def read_size(text: str) -> int:
    """Return a number of bytes; the units are powers of 1024."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.I)
    if found is None:
        raise BadValue("a size such as 512M, 10G or 1T")
    return int(float(found[1]) * UNITS[found[2].upper()])


def read_cache_size(text: str) -> int:
    """Return the size of the cache in bytes, which has a lower bound."""
    size = read_size(text)
    if size < MINIMUM_CACHE_SIZE:
        raise BadValue(f"a size of at least {format_size(MINIMUM_CACHE_SIZE)}")
    return size


def read_rate(text: str) -> int:
    """Return a number of bytes a second; 0 is no limit, and a few bytes are none."""
    rate = read_size(re.sub(r"/s$", "", text.strip()))
    if 0 < rate < MINIMUM_RATE:
        raise BadValue(f"at least {format_size(MINIMUM_RATE)} a second, or 0 for any")
    return rate


def read_requests(text: str) -> int:
    """Return a number of requests a second; 0 is no limit."""
    found = re.fullmatch(r"\d{1,5}", text.strip())
    if found is None:
        raise BadValue("a number of requests from 1 to 99999, or 0 for any")
    return int(found[0])


def read_names_max(text: str) -> int:
    """Return a number of names, which has a lower bound."""
    found = re.fullmatch(r"\d+", text.strip())
    if found is None or int(found[0]) < MINIMUM_NAMES:
        raise BadValue(f"a number of at least {MINIMUM_NAMES}")
    return int(found[0])


def read_ttl(text: str) -> float:
    """Return a duration in seconds; `500ms`, `2s`, `5m` and `1h` are understood."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)", text.strip())
    if found is None:
        raise BadValue("a time such as 1s, 500ms or 5m")
    seconds = (
        float(found[1]) * {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
    )
    if seconds > MAXIMUM_TTL_S:
        raise BadValue("a time of at most a year")
    return seconds


def read_mode(text: str) -> int:
    """Return permission bits given in octal."""
    if not re.fullmatch(r"(0o)?[0-7]{1,4}", text):
        raise BadValue("an octal number such as 644 or 022")
    mode = int(text.removeprefix("0o"), 8)
    if mode > 0o777:
        raise BadValue("permission bits between 000 and 777")
    return mode


def read_user(text: str) -> int:
    """Return a user number, given as such or by name."""
    if text.isascii() and text.isdigit():
        return _checked_id(int(text))
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise BadValue("a user's number, or the name of a user of this host") from None


def read_group(text: str) -> int:
    """Return a group number, given as such or by name."""
    if text.isascii() and text.isdigit():
        return _checked_id(int(text))
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise BadValue("a group's number, or the name of a group here") from None


def _checked_id(number: int) -> int:
    if number > 0xFFFF_FFFE:
        raise BadValue("a number below 4294967295")
    return number


def read_path(text: str) -> Path:
    """Return an absolute path; `~` is the home directory."""
    if not text or "\0" in text:
        raise BadValue("a path")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise BadValue("a path whose ~user exists") from None


def read_endpoint(text: str) -> str:
    """Return the URL of an S3 service."""
    if not re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?", text):
        raise BadValue("a URL such as https://s3.example.org, without credentials")
    return text


def read_kms_key(text: str) -> str:
    """Return the full name of a key of Google's Cloud KMS."""
    pattern = r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+"
    if not re.fullmatch(pattern, text):
        raise BadValue("projects/P/locations/L/keyRings/R/cryptoKeys/K")
    return text


def read_events(text: str) -> str:
    """Return what names a subscription of Google's Pub/Sub or a queue of SQS."""
    queue = r"sqs://([a-z0-9-]+/[0-9]{12}/)?[A-Za-z0-9_.-]+"
    if not re.fullmatch(rf"projects/[^/]+/subscriptions/[^/]+|{queue}", text):
        raise BadValue(
            "sqs://QUEUE or sqs://REGION/ACCOUNT/QUEUE, for gs://"
            " projects/P/subscriptions/S"
        )
    return text


def read_word(text: str) -> str:
    """Return text that is neither empty nor broken over lines."""
    if not text or not text.isprintable():
        raise BadValue("a word")
    return text


def read_account(text: str) -> str:
    """Return the number of an AWS account."""
    if not re.fullmatch(r"\d{12}", text):
        raise BadValue("an account number of twelve digits")
    return text


def read_port(text: str) -> int:
    """Return a TCP port."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 16):
        raise BadValue("a TCP port, 1 to 65535")
    return int(text)


def read_address(text: str) -> str:
    """Return the IP address of an interface."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise BadValue("an IP address, such as 127.0.0.1 or ::1") from None


def read_request_prices(text: str) -> Prices:
    """Return what a service charges for requests."""
    try:
        return read_prices(text)
    except ValueError:
        raise BadValue(
            "dollars for a thousand requests, such as write=0.005,read=0.0004"
        ) from None


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a reader that takes these words alone."""

    def read(text: str) -> str:
        if text not in choices:
            raise BadValue(
                " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))
            )
        return text

    return read


def read_virtual(text: str) -> Features:
    """Return the gates that are on: `all`, `none` or a list of their names.

    The prefix `virtual_` may be left out. Names are separated by commas, or by
    colons where a comma already means something, as in `-o`.
    """
    if text in ("all", "none"):
        return Features.all() if text == "all" else Features()
    gates = {gate.name for gate in dataclasses.fields(Features)}
    on: dict[str, bool] = {}
    for word in re.split(r"[,:\s]+", text.strip(",: ")):
        name = word.replace("-", "_")
        full = name if name in gates else f"virtual_{name}"
        if full not in gates:
            short = {gate.removeprefix("virtual_") for gate in gates}
            hint = suggestion(name, gates | short | {"all", "none"}) or (
                "; they are " + ", ".join(sorted(gates))
            )
            raise BadValue(f"all, none or a list of gates: {word!r} is none{hint}")
        on[full] = True
    return Features(**on)


def format_size(size: int) -> str:
    """Return a size for people: `12 MiB`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        scale = UNITS[unit[0]]
        if size >= scale:
            return f"{size / scale:.1f}".removesuffix(".0") + f" {unit}"
    return f"{size} B"


def format_span(seconds: float) -> str:
    """Return a span of time for people: `40 s`, `3:20 min`, `2:05 h`."""
    whole = math.ceil(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" if something known is near, else nothing."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return what is known and so near that it may be what was meant."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return near[0] if near else None


CREDENTIAL_WORDS = re.compile(
    r"(secret|password|passwd|token|access[-_]?key|credential)", re.I
)


def refuse_credentials(name: str) -> None:
    """Raise `UsageError` for the name of an option that would carry a secret."""
    if CREDENTIAL_WORDS.search(name):
        raise UsageError(
            f"{name} is not an option, because every user of this host can read a"
            " command line: put credentials where the AWS tools look for them"
            " (~/.aws/credentials with --profile, AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY in the environment, or a role)"
        )


OPTIONS: tuple[Option, ...] = (
    Option(
        name="endpoint-url",
        read=read_endpoint,
        metavar="URL",
        help="the service to talk to, if it is not AWS or Google",
        is_for_store=True,
        schemes=S3_AND_GS,
    ),
    Option(
        name="region",
        read=read_word,
        metavar="NAME",
        help="the region of the bucket",
        is_for_store=True,
    ),
    Option(
        name="profile",
        read=read_word,
        metavar="NAME",
        help="the profile of ~/.aws to take credentials from",
        is_for_store=True,
    ),
    Option(
        name="no-sign-request",
        read=read_switch,
        help="send no credentials: for public buckets",
        is_for_store=True,
        schemes=S3_AND_GS,
    ),
    Option(
        name="requester-pays",
        read=read_switch,
        help="pay for requests and transfer oneself",
        is_for_store=True,
        store_name="request_payer",
    ),
    Option(
        name="user-project",
        read=read_word,
        metavar="PROJECT",
        help="the Google project that pays for requests and transfer",
        is_for_store=True,
        schemes=GS_ALONE,
    ),
    Option(
        name="expected-bucket-owner",
        read=read_account,
        metavar="ACCOUNT",
        help="refuse to work if the bucket belongs to another account",
        is_for_store=True,
    ),
    Option(
        name="addressing-style",
        read=one_of("auto", "path", "virtual"),
        metavar="STYLE",
        help="put the bucket in the path or the host name: auto, path or virtual",
        is_for_store=True,
    ),
    Option(
        name="sse",
        read=one_of("AES256", "aws:kms", "aws:kms:dsse", "customer"),
        metavar="KIND",
        help="encrypt on the server: AES256, aws:kms, aws:kms:dsse or customer",
        is_for_store=True,
        schemes=S3_AND_GS,
    ),
    Option(
        name="sse-kms-key-id",
        read=read_word,
        metavar="ID",
        help="the KMS key for --sse aws:kms",
        is_for_store=True,
    ),
    Option(
        name="sse-kms-context",
        read=read_word,
        metavar="PAIRS",
        help="the encryption context for --sse aws:kms, as JSON",
        is_for_store=True,
    ),
    Option(
        name="sse-bucket-key",
        read=read_switch,
        help="ask KMS once per bucket, not per object",
        is_for_store=True,
    ),
    Option(
        name="sse-customer-key-file",
        read=read_path,
        metavar="FILE",
        help="encrypt on the server with the key in FILE (32 bytes, or base64 of them)",
        is_for_store=True,
        schemes=S3_AND_GS,
    ),
    Option(
        name="events",
        read=read_events,
        metavar="QUEUE",
        help="the SQS queue or Pub/Sub subscription, of this mount alone, that tells"
        " what others change in the bucket",
        is_for_store=True,
        schemes=S3_AND_GS,
    ),
    Option(
        name="kms-key",
        read=read_kms_key,
        metavar="KEY",
        help="the key of Google's Cloud KMS that encrypts what is written",
        is_for_store=True,
        schemes=GS_ALONE,
    ),
    Option(
        name="storage-class",
        read=read_word,
        metavar="CLASS",
        help="the storage class of new objects",
        is_for_store=True,
        schemes=S3_AND_GS,
    ),
    Option(
        name="checksums",
        read=read_switch,
        metavar="on|off",
        help="off for services without the newer checksums (default on)",
        is_for_store=True,
        schemes=S3_AND_GS,
    ),
    Option(
        name="content-types",
        read=read_switch,
        metavar="on|off",
        help="set Content-Type from the file name (default on)",
        is_for_store=True,
        schemes=S3_AND_GS,
    ),
    Option(
        name="s3-client",
        read=one_of("light", "boto3"),
        metavar="CLIENT",
        help="who sends the frequent requests: light or boto3 (default light)",
        is_for_store=True,
    ),
    Option(
        name="dropbox-token-file",
        read=read_path,
        metavar="FILE",
        help="what `mountfs auth dropbox` wrote (default ~/.config/mountfs)",
        is_for_store=True,
        store_name="token_file",
        schemes=DROPBOX_ALONE,
    ),
    Option(
        name="dropbox-path-root",
        read=read_word,
        metavar="ID",
        help="the namespace of a team space or shared folder that paths begin in",
        is_for_store=True,
        store_name="path_root",
        schemes=DROPBOX_ALONE,
    ),
    Option(
        name="dropbox-properties",
        read=read_switch,
        help="keep attributes in property groups (default on)",
        metavar="on|off",
        is_for_store=True,
        store_name="properties",
        schemes=DROPBOX_ALONE,
    ),
    Option(
        name="dropbox-endpoint",
        read=read_endpoint,
        metavar="URL",
        help="a server that stands for all hosts of Dropbox, for tests",
        is_for_store=True,
        store_name="endpoint",
        schemes=DROPBOX_ALONE,
    ),
    Option(
        name="dropbox-ca-file",
        read=read_path,
        metavar="FILE",
        help="the certificates to trust when talking to Dropbox",
        is_for_store=True,
        store_name="ca_file",
        schemes=DROPBOX_ALONE,
    ),
    Option(
        name="equal-parts",
        read=read_switch,
        help="send parts of equal size, as some services demand",
        is_for_store=True,
    ),
    Option(
        name="cache-dir",
        read=read_path,
        metavar="DIR",
        help="where blocks are cached; may be deleted at any time",
    ),
    Option(
        name="cache-size",
        read=read_cache_size,
        metavar="SIZE",
        help="the most that the cache may hold, such as 512M or 10G",
    ),
    Option(
        name="min-free",
        read=read_size,
        metavar="SIZE",
        help="leave so much of the cache's disk to others; 0 for all of it (default a"
        " twentieth of the disk, 1G at most)",
    ),
    Option(
        name="state-dir",
        read=read_path,
        metavar="DIR",
        help="where data lie that the store does not have yet; never delete it",
    ),
    Option(
        name="bwlimit-up",
        read=read_rate,
        metavar="SIZE",
        help="send at most so many bytes of files a second, such as 10M (default 0:"
        " any number)",
    ),
    Option(
        name="bwlimit-down",
        read=read_rate,
        metavar="SIZE",
        help="fetch at most so many bytes of files a second (default 0: any number)",
    ),
    Option(
        name="max-requests-per-second",
        read=read_requests,
        metavar="N",
        help="send at most N requests in any second (default 0: any number)",
    ),
    Option(
        name="durability",
        read=one_of("store", "journal"),
        metavar="WHEN",
        help="when close, fsync, mkdir, rename... return: store (default), when the"
        " store has it, or journal, when it is safe on the local disk",
    ),
    Option(
        name="offline",
        read=one_of("wait", "eio", "cached"),
        metavar="POLICY",
        help="while the store is out of reach: wait, eio or cached (default wait)",
    ),
    Option(
        name="conflict",
        read=one_of("copy", "fail", "overwrite"),
        metavar="WHAT",
        help="of two clients that change a file, the later one's bytes: copy, fail"
        " or overwrite (default copy)",
    ),
    Option(
        name="virtual",
        read=read_virtual,
        metavar="LIST",
        help="what to emulate: all, none or a list of gates",
    ),
    Option(
        name="ttl",
        read=read_ttl,
        metavar="TIME",
        help="how long an answer of the store is trusted (default 1s)",
    ),
    Option(
        name="names-max",
        read=read_names_max,
        metavar="N",
        help="keep so many names in memory, half a kilobyte each (default 1000000)",
    ),
    Option(
        name="exclusive",
        read=read_switch,
        help="nobody else changes the bucket: trust answers until we change it",
    ),
    Option(
        name="lazy",
        read=read_switch,
        help="mount also while the store cannot be reached; it is waited for",
    ),
    Option(name="read-only", read=read_switch, help="send no write of any kind"),
    Option(
        name="allow-other",
        read=read_switch,
        help="let other users in, under the permissions of the files",
    ),
    Option(
        name="noexec",
        read=read_switch,
        help="let no program run that lies in the mount",
    ),
    Option(
        name="sync",
        read=read_switch,
        help="write(2) returns when the store has it: very slow",
    ),
    Option(
        name="noatime",
        read=read_switch,
        help="reading a file does not set its atime",
    ),
    Option(
        name="uid",
        read=read_user,
        metavar="USER",
        help="the owner of files that have none",
    ),
    Option(
        name="gid",
        read=read_group,
        metavar="GROUP",
        help="the group of files that have none",
    ),
    Option(
        name="umask",
        read=read_mode,
        metavar="MODE",
        help="permission bits to take away from files that have none",
    ),
    Option(
        name="file-mode",
        read=read_mode,
        metavar="MODE",
        help="permission bits of files that have none (default 644)",
    ),
    Option(
        name="dir-mode",
        read=read_mode,
        metavar="MODE",
        help="permission bits of directories that have none (default 755)",
    ),
    Option(
        name="metrics-port",
        read=read_port,
        metavar="PORT",
        help="serve metrics for Prometheus at this TCP port (default: not at all)",
    ),
    Option(
        name="metrics-address",
        read=read_address,
        metavar="IP",
        help="the address to serve metrics at (default 127.0.0.1)",
    ),
    Option(
        name="request-prices",
        read=read_request_prices,
        metavar="PRICES",
        help="what your service charges, in dollars for a thousand requests:"
        " write=0.005,read=0.0004",
    ),
    Option(
        name="log-format",
        read=one_of("text", "json"),
        metavar="FORMAT",
        help="text or json, one object a line (default text)",
    ),
    Option(
        name="log-level",
        read=one_of("debug", "info", "warning", "error"),
        metavar="LEVEL",
        help="debug, info, warning or error (default info)",
    ),
    Option(
        name="log-file",
        read=read_path,
        metavar="FILE",
        help="where the log goes (default: a file in the state directory)",
    ),
)

BY_FIELD = {option.field: option for option in OPTIONS}
