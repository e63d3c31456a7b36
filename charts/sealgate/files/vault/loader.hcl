# For loading artifacts: unwraps data keys, and cannot create them.
# Put the mount and the key of keys.vault in place of transit and artifacts.
path "transit/decrypt/artifacts" {
  capabilities = ["update"]
}
