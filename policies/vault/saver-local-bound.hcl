# For saving artifacts of one context with keys.vault.dataKeys: local: wraps data keys in this context only.
# Put the mount, the key and the context (in base64) of keys.vault in place of transit, artifacts and dGVhbS1h.
path "transit/encrypt/artifacts" {
  capabilities = ["update"]
  required_parameters = ["context"]
  allowed_parameters = {
    "plaintext" = []
    "type" = []
    "context" = ["dGVhbS1h"]
  }
}

# Reading the key shows whether it is derived. For a key that is not derived, Vault ignores the context.
path "transit/keys/artifacts" {
  capabilities = ["read"]
}
