"""The key provider for HashiCorp Vault and OpenBao (docs/vault.md)."""
