"""Mount an object store as a directory; every file stays one plain object."""
