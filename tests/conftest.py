"""What all tests share: the S3 servers (see `tests/fakes/s3_fixtures.py`)."""

pytest_plugins = ["tests.fakes.s3_fixtures"]
