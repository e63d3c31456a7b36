# For writing audit trails: certifies the trail of a process once, when the process starts.
# Put the mount of keys.vault and the key of audit.signingKey in place of transit and audit.
path "transit/sign/audit" {
  capabilities = ["update"]
}
