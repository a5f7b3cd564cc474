"""The light data plane stays small: it takes boto3's place, and is not to become it."""

import inspect

from mountfs.backends import s3_pages, s3_plane, s3_signing, s3_wire
from mountfs.backends.s3_wire import HOT

LINES_MAX = 600
OPERATIONS_MAX = 11


def test_the_data_plane_is_at_most_600_lines() -> None:
    """All that signs, sends and reads, comments included."""
    modules = (s3_pages, s3_plane, s3_signing, s3_wire)
    sizes = [len(inspect.getsource(module).splitlines()) for module in modules]
    assert sum(sizes) <= LINES_MAX


def test_the_data_plane_sends_eleven_operations_and_no_more() -> None:
    """What is not sent for each file, page or part is the SDK's."""
    assert len(HOT) <= OPERATIONS_MAX
