# Loads artifacts of one context: may have data keys opened in it and in no other, and cannot make any.
# Put the mount, the key and the context (in base64) of keys.vault in place of transit, artifacts and dGVhbS1h.
path "transit/decrypt/artifacts" {
  capabilities = ["update"]
  required_parameters = ["context"]
  allowed_parameters = {
    "ciphertext" = []
    "context" = ["dGVhbS1h"]
  }
}

# Whether the key is derived: of one that is not, Vault ignores the context.
path "transit/keys/artifacts" {
  capabilities = ["read"]
}
