"""Measures the figures of docs/performance.md, next to peers: `make bench`."""
