"""Untrusted YAML and JSON documents: a strict reader that reports line and column, and validation against types."""
