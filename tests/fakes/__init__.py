"""Servers, proxies and stores that stand in for the real ones."""
