"""What may be done with an artifact: facts in, a decision with its reasons out. Pure."""
