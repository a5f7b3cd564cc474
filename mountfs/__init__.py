"""Mount an object store as a directory; every file stays one plain object."""

__version__ = "0.1.0"
