"""What runs in the daemon of a mount beside its file system."""
