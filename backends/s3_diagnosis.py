"""What an S3 store tells `mountfs doctor`: credentials, and what is set for the bucket.

Nothing is written, and no secret leaves this module.
"""

import datetime
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import botocore.session
import trio
from botocore.exceptions import BotoCoreError

from mountfs.backends import s3_policy
from mountfs.backends.s3_client import Reply, S3Client
from mountfs.backends.s3_keys import KeySpace
from mountfs.backends.s3_options import S3Options, parse_options, split_url
from mountfs.storage.diagnosis import Address, Deed, Diagnosis, Finding, State
from mountfs.storage.errors import NotFound, PermissionDenied, StoreError, Unsupported

_SOURCES: Mapping[str, str] = {
    "env": "the environment (AWS_ACCESS_KEY_ID)",
    "shared-credentials-file": "a profile in ~/.aws/credentials",
    "config-file": "a profile in ~/.aws/config",
    "assume-role": "a role that a profile assumes",
    "assume-role-with-web-identity": "a role by a web identity token",
    "sso": "a profile of single sign-on",
    "custom-process": "a program that a profile names (credential_process)",
    "iam-role": "the role of this machine",
    "container-role": "the role of this container",
}
_COLD = ("GLACIER", "DEEP_ARCHIVE")
_SOON = datetime.timedelta(minutes=5)
_COST = "versioning"


def open_diagnosis(url: str, options: Mapping[str, object]) -> Diagnosis:
    """Return what tells of the store at a URL; nothing is sent."""
    return S3Diagnosis(KeySpace(*split_url(url)), parse_options(options))


class S3Diagnosis:
    """Tells of one bucket."""

    def __init__(self, keys: KeySpace, options: S3Options) -> None:
        self._keys = keys
        self._options = options
        self._client = S3Client(options)

    @property
    def needs(self) -> Mapping[Deed, str]:
        """The actions of IAM."""
        return s3_policy.ACTIONS

    def address(self) -> Address | None:
        """Return the endpoint that the SDK chooses."""
        session = botocore.session.Session(profile=self._options.profile)
        url = self._options.endpoint_url
        try:
            ca_file = session.get_config_variable("ca_bundle")
            ca_file = ca_file or os.environ.get("REQUESTS_CA_BUNDLE")
            if url is None:
                region = self._options.region or session.get_config_variable("region")
                resolver = session.get_component("endpoint_resolver")
                found = resolver.construct_endpoint("s3", region or "us-east-1") or {}
                url = f"https://{found.get('hostname', 's3.amazonaws.com')}"
        except BotoCoreError:  # a profile that does not exist: `credentials` says so
            return None
        return Address(url, str(ca_file) if ca_file else None)

    def credentials(self) -> Finding:
        """Tell which of the sources of the AWS tools has some."""
        name = "credentials"
        if self._options.no_sign_request:
            return Finding(name, State.OK, "none are sent (--no-sign-request)")
        try:
            session = botocore.session.Session(profile=self._options.profile)
            found = session.get_credentials()
        except BotoCoreError as error:
            cure = "see docs/how-to/s3-credentials.md"
            return Finding(name, State.FAIL, str(error), cure)
        if found is None:
            return Finding(
                name,
                State.FAIL,
                "none were found in the environment, ~/.aws or a role",
                "run `aws configure`, set AWS_PROFILE, or say --no-sign-request",
            )
        source = _SOURCES.get(found.method, found.method)
        profile = self._options.profile or os.environ.get("AWS_PROFILE")
        if profile and found.method != "env":
            source = f"{source}, profile {profile}"
        return _with_expiry(name, source, getattr(found, "_expiry_time", None))

    async def bucket(self) -> Sequence[Finding]:
        """Ask for versioning, object lock and the rules of the life cycle."""
        found: dict[str, list[Finding]] = {}

        async def look(
            name: str, operation: str, tell: Callable[[Reply], Iterable[Finding]]
        ) -> None:
            try:
                reply = await self._client.call(
                    operation, {"Bucket": self._keys.bucket}
                )
            except (NotFound, Unsupported):
                reply = {}
            except PermissionDenied:
                text = "the credentials may not look at it (a mount need not)"
                found[name] = [Finding(name, State.SKIP, text)]
                return
            except StoreError as error:
                found[name] = [Finding(name, State.SKIP, error.reason)]
                return
            found[name] = list(tell(reply))

        rules: list[Mapping[str, Any]] = []

        def remember(reply: Reply) -> Iterable[Finding]:
            rules.extend(reply.get("Rules", ()))
            return lifecycle(rules, self._keys.root)

        async with trio.open_nursery() as nursery:
            for arguments in (
                (_COST, "get_bucket_versioning", _versioning),
                ("object lock", "get_object_lock_configuration", _object_lock),
                ("lifecycle", "get_bucket_lifecycle_configuration", remember),
            ):
                nursery.start_soon(look, *arguments)
        if any("NoncurrentVersionExpiration" in rule for rule in rules):
            found[_COST] = [_expiring(each) for each in found[_COST]]
        return [each for name in sorted(found) for each in found[name]]

    def policy(self, *, read_only: bool) -> str:
        """Return an IAM policy."""
        return s3_policy.policy(self._keys, self._options, read_only=read_only)

    async def close(self) -> None:
        """Close the idle connections."""
        await self._client.close()


def _with_expiry(name: str, source: str, expiry: object) -> Finding:
    if not isinstance(expiry, datetime.datetime):
        return Finding(name, State.OK, f"from {source}")
    text = f"from {source}, good until {expiry:%Y-%m-%d %H:%M} UTC, and renewed"
    if expiry - datetime.datetime.now(datetime.UTC) > _SOON:
        return Finding(name, State.OK, text)
    return Finding(name, State.WARN, text, "look whether they are really renewed")


def _versioning(reply: Reply) -> Iterable[Finding]:
    if reply.get("Status") == "Enabled":
        yield Finding(
            _COST,
            State.WARN,
            "on: each save and each removal keeps the old bytes, and they are paid for",
            "add a lifecycle rule with NoncurrentVersionExpiration",
        )
    else:
        status = str(reply.get("Status", "off")).lower()
        yield Finding(_COST, State.OK, f"{status}: what is replaced is gone")


def _expiring(finding: Finding) -> Finding:
    if finding.state is not State.WARN:
        return finding
    text = "on, and a lifecycle rule removes old versions"
    return Finding(finding.what, State.OK, text)


def _object_lock(reply: Reply) -> Iterable[Finding]:
    about: Mapping[str, Any] = reply.get("ObjectLockConfiguration", {})
    if about.get("ObjectLockEnabled") != "Enabled":
        yield Finding("object lock", State.OK, "off")
        return
    kept = about.get("Rule", {}).get("DefaultRetention", {})
    if not kept:
        yield Finding("object lock", State.OK, "on, without a default retention")
        return
    years, days = kept.get("Years"), kept.get("Days")
    length = f"{years} years" if years else f"{days} days"
    yield Finding(
        "object lock",
        State.WARN,
        f"each version is kept for {length} ({kept.get('Mode')}), and paid for",
        "mount with --durability journal, which stores each file less often",
    )


def lifecycle(rules: Iterable[Mapping[str, Any]], root: str) -> Iterable[Finding]:
    """Tell which rules of a bucket touch what lies below a root."""
    name = "lifecycle"
    mine = [rule for rule in rules if _touches(rule, root)]
    found: list[Finding] = []
    for rule in mine:
        label = f"the rule {rule.get('ID', 'without a name')!r}"
        if rule.get("Expiration", {}).keys() & {"Days", "Date"}:
            cure = "leave the prefix of the mount out of it, if that is not wanted"
            text = f"{label} deletes files behind the mount's back"
            found.append(Finding(name, State.WARN, text, cure))
        cold = [each.get("StorageClass") for each in rule.get("Transitions", ())]
        if any(each in _COLD for each in cold):
            text = f"{label} moves files to {', '.join(map(str, cold))}: no read works"
            cure = "use GLACIER_IR or INTELLIGENT_TIERING for what is mounted"
            found.append(Finding(name, State.WARN, text, cure))
    if not any("AbortIncompleteMultipartUpload" in rule for rule in mine):
        found.append(
            Finding(
                name,
                State.WARN,
                "no rule ends uploads that a crash has left, and they are paid for",
                "add a rule with AbortIncompleteMultipartUpload after 7 days",
            )
        )
    return found or [Finding(name, State.OK, "ends uploads that a crash has left")]


def _touches(rule: Mapping[str, Any], root: str) -> bool:
    if rule.get("Status") != "Enabled":
        return False
    about: Mapping[str, Any] = rule.get("Filter", {})
    prefix = str(
        rule.get("Prefix")
        or about.get("Prefix")
        or about.get("And", {}).get("Prefix")
        or ""
    )
    return prefix.startswith(root) or root.startswith(prefix)
