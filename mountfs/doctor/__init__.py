"""`mountfs doctor`: what this host and a store are like, before anything is mounted."""
