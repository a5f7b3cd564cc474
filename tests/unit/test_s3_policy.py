"""The policy for a mount names what it needs, and nothing else."""

import json
from typing import Any

import pytest

from mountfs.backends.s3_keys import KeySpace
from mountfs.backends.s3_options import parse_options
from mountfs.backends.s3_permissions import _BUCKET, _OBJECT
from mountfs.backends.s3_policy import ACTIONS, policy
from mountfs.storage.diagnosis import Deed

KEYS = KeySpace("bucket", "a/b/")


def statements(keys: KeySpace = KEYS, **settings: Any) -> dict[str, Any]:
    """Return the statements of a policy by their names."""
    read_only = settings.pop("read_only", False)
    text = policy(keys, parse_options(settings), read_only=read_only)
    return {each["Sid"]: each for each in json.loads(text)["Statement"]}


def test_a_prefix_bounds_objects_and_listings() -> None:
    """Nothing outside the prefix may be read or written."""
    found = statements()

    assert found["Objects"]["Resource"] == "arn:aws:s3:::bucket/a/b/*"
    condition = {"StringLikeIfExists": {"s3:prefix": "a/b/*"}}
    assert found["Names"]["Condition"] == condition


def test_a_whole_bucket_needs_no_condition() -> None:
    """Without a prefix the bucket itself is the bound."""
    found = statements(KeySpace("bucket", ""))

    assert "Condition" not in found["Names"]
    assert found["Objects"]["Resource"] == "arn:aws:s3:::bucket/*"


def test_read_only_allows_no_change() -> None:
    """No action that writes, deletes or aborts is in it."""
    text = json.dumps(statements(read_only=True))

    assert not [word for word in ("Put", "Delete", "Abort") if word in text]
    for deed in (Deed.LIST, Deed.STAT, Deed.READ):
        assert ACTIONS[deed] in text


def test_what_doctor_names_is_in_the_policy() -> None:
    """Every missing permission that is named is one that the policy gives."""
    text = json.dumps(statements())

    for actions in ACTIONS.values():
        for action in actions.split(" and "):
            assert f'"{action}"' in text


@pytest.mark.parametrize(
    ("key", "resource"),
    [
        ("1234-ab", "arn:aws:kms:eu-west-1:*:key/1234-ab"),
        ("arn:aws:kms:eu-west-1:1:key/x", "arn:aws:kms:eu-west-1:1:key/x"),
        ("alias/mine", "arn:aws:kms:eu-west-1:*:key/*"),
    ],
)
def test_a_key_of_kms_may_be_used(key: str, resource: str) -> None:
    """By its id, its ARN, or its alias, which is a condition."""
    settings: dict[str, Any] = {
        "sse": "aws:kms",
        "sse_kms_key_id": key,
        "region": "eu-west-1",
    }

    found = statements(**settings)["Key"]
    assert found["Resource"] == resource
    assert set(found["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}
    assert ("Condition" in found) == key.startswith("alias/")
    assert statements(**settings, read_only=True)["Key"]["Action"] == ["kms:Decrypt"]


@pytest.mark.parametrize(
    ("queue", "resource"),
    [
        ("sqs://news", "arn:aws:sqs:eu-west-1:*:news"),
        (
            "sqs://us-east-2/123456789012/news",
            "arn:aws:sqs:us-east-2:123456789012:news",
        ),
    ],
)
def test_a_queue_of_events_may_be_emptied(queue: str, resource: str) -> None:
    """Messages are received and deleted, of that queue alone."""
    found = statements(events=queue, region="eu-west-1")["Events"]

    assert found["Resource"] == resource
    assert {"sqs:ReceiveMessage", "sqs:DeleteMessage"} < set(found["Action"])


def test_other_partitions_have_their_own_names() -> None:
    """What is for China and for the government is named so."""
    for region, partition in (
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
    ):
        found = statements(region=region)["Objects"]["Resource"]
        assert found.startswith(f"arn:{partition}:s3:::")


def test_it_has_what_explain_says_is_missing() -> None:
    """What is told of a refused request is what the policy would have allowed."""
    text = json.dumps(statements())
    of_an_account = {"create_bucket", "delete_bucket"}

    for operation, actions in {**_OBJECT, **_BUCKET}.items():
        if operation not in of_an_account:
            assert all(f'"{action}"' in text for action in actions), operation
