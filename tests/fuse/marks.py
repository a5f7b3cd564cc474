"""Which stores a test runs on, if not on all."""

import os

import pytest

on_shared_stores = pytest.mark.parametrize(
    "shared_store", ["local", "s3"], indirect=True
)
"""Stores that have another side, under the mount that tests share."""

on_disk_stores = pytest.mark.parametrize("store", ["local", "s3"], indirect=True)
"""Stores that hold more than memory does; the fakes do not."""

on_s3 = pytest.mark.parametrize("store", ["s3"], indirect=True)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")
