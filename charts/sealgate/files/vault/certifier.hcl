# Certifies the audit trail of a process, once when it begins.
# Put the mount of keys.vault and the key of audit.signingKey in place of transit and audit.
path "transit/sign/audit" {
  capabilities = ["update"]
}
