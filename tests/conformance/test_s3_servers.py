"""The S3 servers that the other tests stand on."""

from tests.fakes.s3_servers import S3Server


def test_a_server_keeps_what_is_put(s3_server: S3Server, s3_bucket: str) -> None:
    """Each server returns the bytes that were put."""
    client = s3_server.client()

    client.put_object(Bucket=s3_bucket, Key="key", Body=b"bytes")

    assert client.get_object(Bucket=s3_bucket, Key="key")["Body"].read() == b"bytes"
    client.close()
