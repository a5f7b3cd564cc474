"""The configuration of a mount: what was said where, and what it comes to."""
