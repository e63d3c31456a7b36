"""The layers: each takes an `ArtifactPlugin`, is one, and adds one concern."""
