"""The figures of docs/performance.md, measured side by side with their peers: `make bench`."""
