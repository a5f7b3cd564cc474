"""Which action of IAM, on which resource, each request of ours needs. Pure."""

from collections.abc import Mapping
from typing import Any

_OBJECT: Mapping[str, tuple[str, ...]] = {
    "head_object": ("s3:GetObject",),
    "get_object": ("s3:GetObject",),
    "put_object": ("s3:PutObject",),
    "copy_object": ("s3:PutObject",),
    "delete_object": ("s3:DeleteObject",),
    "create_multipart_upload": ("s3:PutObject",),
    "upload_part": ("s3:PutObject",),
    "upload_part_copy": ("s3:PutObject",),
    "complete_multipart_upload": ("s3:PutObject",),
    "abort_multipart_upload": ("s3:AbortMultipartUpload",),
    "list_parts": ("s3:ListMultipartUploadParts",),
    "get_object_tagging": ("s3:GetObjectTagging",),
    "put_object_tagging": ("s3:PutObjectTagging",),
    "get_object_acl": ("s3:GetObjectAcl",),
    "put_object_acl": ("s3:PutObjectAcl",),
    "get_object_retention": ("s3:GetObjectRetention",),
    "get_object_legal_hold": ("s3:GetObjectLegalHold",),
}
_BUCKET: Mapping[str, tuple[str, ...]] = {
    "list_objects_v2": ("s3:ListBucket",),
    "list_multipart_uploads": ("s3:ListBucketMultipartUploads",),
    "get_bucket_ownership_controls": ("s3:GetBucketOwnershipControls",),
    "create_bucket": ("s3:CreateBucket",),
    "delete_bucket": ("s3:DeleteBucket",),
}
_ACCOUNT: Mapping[str, tuple[str, ...]] = {"list_buckets": ("s3:ListAllMyBuckets",)}


def needed(operation: str, parameters: Mapping[str, Any], region: str | None) -> str:
    """Return what must be allowed for a request; nothing for one that is not known.

    S3 does not say which half of a copy it refused, so both are told.
    """
    partition = partition_of(region)
    bucket = f"arn:{partition}:s3:::{parameters.get('Bucket', '*')}"
    resource = f"{bucket}/{parameters.get('Key', '*')}"
    if operation == "delete_objects":
        return f"s3:DeleteObject on {bucket}/*"
    actions = _OBJECT.get(operation)
    if actions is None:
        actions = _BUCKET.get(operation)
        resource = bucket
    if actions is None:
        actions, resource = _ACCOUNT.get(operation, ()), "*"
    told = [f"{action} on {resource}" for action in actions]
    source = parameters.get("CopySource")
    if isinstance(source, Mapping):
        told.append(f"s3:GetObject on {_source(source, partition)}")
    if operation == "head_object":
        # Without it S3 hides by 403 that there is no such object.
        told.append(f"s3:ListBucket on {bucket}")
    return " and ".join(told)


def partition_of(region: str | None) -> str:
    """Return the part of AWS that a region is in, as names of resources have it."""
    if region is not None and region.startswith("cn-"):
        return "aws-cn"
    is_of_state = region is not None and region.startswith("us-gov-")
    return "aws-us-gov" if is_of_state else "aws"


def _source(source: Mapping[str, Any], partition: str) -> str:
    return f"arn:{partition}:s3:::{source.get('Bucket')}/{source.get('Key')}"
