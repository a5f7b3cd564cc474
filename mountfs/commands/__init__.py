"""The commands: what each takes, and the one call that carries it out."""
