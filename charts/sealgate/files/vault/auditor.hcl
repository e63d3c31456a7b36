# Verifies audit trails: may see the public half of the key that certifies them, and nothing else.
# Put the mount of keys.vault and the key of audit.signingKey in place of transit and audit.
path "transit/keys/audit" {
  capabilities = ["read"]
}
