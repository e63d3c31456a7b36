# For verifying audit trails: reads the public part of the key that certifies them.
# Put the mount of keys.vault and the key of audit.signingKey in place of transit and audit.
path "transit/keys/audit" {
  capabilities = ["read"]
}
