"""What the commands do: ask mounts, look at stores, and tell people."""
