"""The layers. Each wraps an `ArtifactPlugin`, is an `ArtifactPlugin` itself, and adds one concern."""
