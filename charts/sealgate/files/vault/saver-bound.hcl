# Saves artifacts of one context: may have data keys made in it and in no other, and cannot open one again.
# Put the mount, the key and the context (in base64) of keys.vault in place of transit, artifacts and dGVhbS1h.
path "transit/datakey/plaintext/artifacts" {
  capabilities = ["update"]
  required_parameters = ["context"]
  allowed_parameters = {
    "bits" = []
    "context" = ["dGVhbS1h"]
  }
}

# Whether the key is derived: of one that is not, Vault ignores the context.
path "transit/keys/artifacts" {
  capabilities = ["read"]
}
