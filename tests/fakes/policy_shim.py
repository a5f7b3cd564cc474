"""A strict shim that lets through only what an IAM policy allows, as AWS decides it.

Of a policy it knows what `mountfs doctor --policy` writes: statements that allow
actions on a resource, and the conditions StringLike and StringLikeIfExists on
`s3:prefix`. Anything else in a policy is an error of the test.
"""

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from tests.fakes.http_proxy import Reply, Request, error_reply
from tests.fakes.s3_servers import S3Server
from tests.fakes.strict_shim import StrictShim

_OF_OBJECT: Mapping[str, str] = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "DeleteObject": "s3:DeleteObject",
    "CopyObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "UploadPartCopy": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListParts": "s3:ListMultipartUploadParts",
    "GetObjectTagging": "s3:GetObjectTagging",
    "GetObjectAcl": "s3:GetObjectAcl",
}
_OF_BUCKET: Mapping[str, str] = {
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "GetBucketOwnershipControls": "s3:GetBucketOwnershipControls",
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
}
_BY_QUERY: Mapping[str, str] = {
    "ownershipControls": "GetBucketOwnershipControls",
    "versioning": "GetBucketVersioning",
    "object-lock": "GetObjectLockConfiguration",
    "lifecycle": "GetBucketLifecycleConfiguration",
}
_Wanted = tuple[str, str, str | None]
"""An action, the resource, and the prefix of a listing."""


class PolicyShim(StrictShim):
    """Forwards what one policy allows, and remembers what it refused."""

    def __init__(self, upstream: S3Server, policy: str) -> None:
        self._statements: Sequence[Mapping[str, Any]] = json.loads(policy)["Statement"]
        self.refused: list[_Wanted] = []
        super().__init__(upstream)

    def answer(self, request: Request) -> Reply:
        """Refuse, or answer as a strict shim."""
        if not request.header("authorization"):
            request.drain()  # no credentials, as of who only looks whether it is there
            return error_reply(403, "AccessDenied", "Access Denied")
        for wanted in _wanted(request):
            if not self._allows(wanted):
                self.refused.append(wanted)
                request.drain()
                return error_reply(403, "AccessDenied", "Access Denied")
        reply = super().answer(request)
        # Who may not list is not told that something is absent.
        listing = ("s3:ListBucket", f"arn:aws:s3:::{request.bucket}", None)
        is_asked = request.operation in ("GetObject", "HeadObject")
        if is_asked and reply.status == 404 and not self._allows(listing):
            self.refused.append(listing)
            return error_reply(403, "AccessDenied", "Access Denied")
        return reply

    def _allows(self, wanted: _Wanted) -> bool:
        action, resource, prefix = wanted
        return any(
            any(fnmatchcase(action, each) for each in statement["Action"])
            and fnmatchcase(resource, statement["Resource"])
            and _holds(statement.get("Condition", {}), prefix)
            for statement in self._statements
            if statement["Effect"] == "Allow"
        )


def _holds(condition: Mapping[str, Mapping[str, str]], prefix: str | None) -> bool:
    for operator, keys in condition.items():
        ((key, pattern),) = keys.items()
        if (operator, key) not in (
            ("StringLike", "s3:prefix"),
            ("StringLikeIfExists", "s3:prefix"),
        ):
            raise AssertionError(f"this shim does not know {operator} of {key}")
        if prefix is None:
            return operator.endswith("IfExists")
        if not fnmatchcase(prefix, pattern):
            return False
    return True


def _wanted(request: Request) -> list[_Wanted]:
    bucket = f"arn:aws:s3:::{request.bucket}"
    named = [_BY_QUERY[word] for word in request.query if word in _BY_QUERY]
    operation = named[0] if named and not request.key else request.operation
    if operation == "DeleteObjects":
        keys = ElementTree.fromstring(request.body()).findall("{*}Object/{*}Key")
        return [("s3:DeleteObject", f"{bucket}/{key.text}", None) for key in keys]
    if operation in _OF_BUCKET:
        prefix = request.query.get("prefix", [None])[0]
        return [(_OF_BUCKET[operation], bucket, prefix)]
    found: list[_Wanted] = [
        (_OF_OBJECT.get(operation, operation), f"{bucket}/{request.key}", None)
    ]
    if operation in ("CopyObject", "UploadPartCopy"):
        source = unquote(request.header("x-amz-copy-source").partition("?")[0])
        found.append(("s3:GetObject", f"arn:aws:s3:::{source.lstrip('/')}", None))
    if request.header("x-amz-tagging"):
        found.append(("s3:PutObjectTagging", f"{bucket}/{request.key}", None))
    return found
