"""What is set for a bucket of S3, and costs money or surprises, is told."""

import contextlib

from mountfs.backends import open_diagnosis
from mountfs.storage.diagnosis import Finding, State
from tests.fakes import s3_servers
from tests.fakes.s3_servers import S3Server

ABORT = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}
OLD = {"NoncurrentVersionExpiration": {"NoncurrentDays": 30}}
RULE = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""}}


async def told(server: S3Server, bucket: str) -> dict[str, list[Finding]]:
    """Return what is told of a bucket, by what it is about."""
    options = {"endpoint_url": server.endpoint_url, "addressing_style": "path"}
    diagnosis = open_diagnosis(f"s3://{bucket}/pre", options)
    assert diagnosis is not None
    try:
        found: dict[str, list[Finding]] = {}
        for each in await diagnosis.bucket():
            found.setdefault(each.what, []).append(each)
        return found
    finally:
        await diagnosis.close()


async def test_a_plain_bucket_costs_what_it_holds(
    moto_server: S3Server, moto_bucket: str
) -> None:
    """Nothing is kept that was replaced; only leftovers of crashes stay."""
    found = await told(moto_server, moto_bucket)

    assert [each.state for each in found["versioning"]] == [State.OK]
    assert [each.state for each in found["object lock"]] == [State.OK]
    assert [each.state for each in found["lifecycle"]] == [State.WARN]


async def test_old_versions_cost_money_until_a_rule_ends_them(
    moto_server: S3Server,
) -> None:
    """Versioning warns; with a rule that removes old versions it does not."""
    with (
        s3_servers.bucket(moto_server, object_lock=True) as bucket,
        contextlib.closing(moto_server.client()) as client,
    ):
        client.put_object_lock_configuration(
            Bucket=bucket,
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}},
            },
        )
        before = await told(moto_server, bucket)
        client.put_bucket_lifecycle_configuration(
            Bucket=bucket,
            LifecycleConfiguration={"Rules": [{**RULE, **ABORT, **OLD}]},  # type: ignore[list-item]  # as AWS has it
        )
        after = await told(moto_server, bucket)

    assert [each.state for each in before["versioning"]] == [State.WARN]
    assert "3 days (GOVERNANCE)" in before["object lock"][0].text
    assert [each.state for each in after["versioning"]] == [State.OK]
    assert [each.state for each in after["lifecycle"]] == [State.OK]
