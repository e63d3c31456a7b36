"""YAML and JSON documents from outside: a strict reader with line and column, and validation against types."""
