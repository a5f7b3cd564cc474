"""The least that an IAM policy must allow for a mount of a bucket or a prefix.

Pure. Which requests a mount sends is in `s3_survivors`, `s3_multipart` and `s3`; a test
runs a whole mount under this policy, so that a new request shows when it is missing.
"""

import json
import re
from collections.abc import Mapping

from mountfs.backends.s3_keys import KeySpace
from mountfs.backends.s3_options import QUEUE, S3Options
from mountfs.backends.s3_permissions import partition_of
from mountfs.storage.diagnosis import Deed

ACTIONS: Mapping[Deed, str] = {
    Deed.LIST: "s3:ListBucket",
    Deed.STAT: "s3:GetObject",
    Deed.READ: "s3:GetObject",
    Deed.WRITE: "s3:PutObject",
    Deed.COPY: "s3:GetObject and s3:PutObject",
    Deed.DELETE: "s3:DeleteObject",
    Deed.MULTIPART: "s3:PutObject and s3:ListMultipartUploadParts",
    Deed.ABORT: "s3:AbortMultipartUpload",
}
_READ = ("s3:GetObject",)
_WRITE = (
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
)
_KEPT = (
    "s3:GetObjectTagging",
    "s3:PutObjectTagging",
    "s3:GetObjectAcl",
    "s3:PutObjectAcl",
    "s3:GetObjectRetention",
    "s3:PutObjectRetention",
    "s3:GetObjectLegalHold",
    "s3:PutObjectLegalHold",
)
"""For what edited objects keep of their tags, grants and holds."""
_SEEN = (
    "s3:GetBucketVersioning",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetLifecycleConfiguration",
)
"""What `mountfs doctor` looks at and a mount does not."""
_FROM_QUEUE = ("sqs:GetQueueUrl", "sqs:ReceiveMessage", "sqs:DeleteMessage")


def policy(keys: KeySpace, options: S3Options, *, read_only: bool) -> str:
    """Return the policy as JSON."""
    bucket = f"arn:{partition_of(options.region)}:s3:::{keys.bucket}"
    objects = f"{bucket}/{keys.root}*"
    statements = [_listing(bucket, keys.root)]
    statements.append(
        _statement("Objects", _READ if read_only else _READ + _WRITE, objects)
    )
    if not read_only:
        statements.append(_statement("KeptOfObjects", _KEPT, objects))
        own = ("s3:ListBucketMultipartUploads", "s3:GetBucketOwnershipControls")
        statements.append(_statement("Uploads", own, bucket))
    statements.append(_statement("OnlyForDoctor", _SEEN, bucket))
    if options.sse_kms_key_id:
        actions = ("kms:Decrypt",) if read_only else ("kms:Decrypt", *_KMS_WRITE)
        statements.append(_key(actions, options))
    if options.events is not None:
        statements.append(_statement("Events", _FROM_QUEUE, _queue(options)))
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2)


_KMS_WRITE = ("kms:GenerateDataKey",)


def _listing(bucket: str, root: str) -> dict[str, object]:
    listing = _statement("Names", ("s3:ListBucket",), bucket)
    if root:
        # A HEAD of what is absent is answered with 404 only to who may list, and has no
        # prefix; without `IfExists` each new name would be EACCES.
        listing["Condition"] = {"StringLikeIfExists": {"s3:prefix": f"{root}*"}}
    return listing


def _key(actions: tuple[str, ...], options: S3Options) -> dict[str, object]:
    name = str(options.sse_kms_key_id)
    if name.startswith("arn:"):
        return _statement("Key", actions, name)
    partition = partition_of(options.region)
    region = options.region or "*"
    if name.startswith("alias/"):
        # IAM knows keys by their ids alone; an alias is a condition on them.
        statement = _statement("Key", actions, f"arn:{partition}:kms:{region}:*:key/*")
        statement["Condition"] = {
            "ForAnyValue:StringEquals": {"kms:ResourceAliases": name}
        }
        return statement
    return _statement("Key", actions, f"arn:{partition}:kms:{region}:*:key/{name}")


def _queue(options: S3Options) -> str:
    found = re.fullmatch(QUEUE, str(options.events))
    assert found is not None, "it was checked"
    region, account = found["region"] or options.region or "*", found["account"] or "*"
    return f"arn:{partition_of(options.region)}:sqs:{region}:{account}:{found['name']}"


def _statement(name: str, actions: tuple[str, ...], resource: str) -> dict[str, object]:
    return {
        "Sid": name,
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": resource,
    }
