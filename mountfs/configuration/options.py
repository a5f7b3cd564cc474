"""The options of a mount: their names, how a value is read, its help.

One table serves the command line, `-o`, the environment and the TOML file. A value
comes in as text and leaves as a plain value (`mountfs.configuration.values`), or as a
`UsageError`; what the values mean together is the affair of
`mountfs.configuration.config`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from mountfs.configuration.values import (
    one_of,
    read_account,
    read_address,
    read_cache_size,
    read_endpoint,
    read_events,
    read_group,
    read_kms_key,
    read_mode,
    read_names_max,
    read_path,
    read_patterns,
    read_port,
    read_rate,
    read_request_prices,
    read_requests,
    read_size,
    read_switch,
    read_ttl,
    read_user,
    read_virtual,
    read_word,
)
from mountfs.errors import UsageError

S3_ALONE = frozenset({"s3"})
GS_ALONE = frozenset({"gs"})
S3_AND_GS = S3_ALONE | GS_ALONE
DROPBOX_ALONE = frozenset({"dropbox"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option. Without a metavar it is a switch."""

    name: str
    read: Callable[[str], object]
    help: str
    metavar: str | None = None
    is_list: bool = False
    """It may be given several times, and means all of that."""
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
        help="where paths begin: 'team', or the namespace of a shared folder",
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
        name="local-only",
        read=read_patterns,
        metavar="PATTERN",
        is_list=True,
        help="with --durability journal: new files of such names, as *.swp or .~lock.*,"
        " stay here until they are renamed to another; may be given several times",
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
