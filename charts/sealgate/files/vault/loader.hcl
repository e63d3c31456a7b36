# Loads artifacts: may have data keys opened, and cannot make any.
# Put the mount and the key of keys.vault in place of transit and artifacts.
path "transit/decrypt/artifacts" {
  capabilities = ["update"]
}
