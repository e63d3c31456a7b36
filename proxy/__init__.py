"""Sealgate: an artifact plugin that encrypts what another artifact plugin stores."""
