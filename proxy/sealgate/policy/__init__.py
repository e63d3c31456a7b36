"""The policy engine: decides which operations on artifacts are allowed, and which key seals them."""
