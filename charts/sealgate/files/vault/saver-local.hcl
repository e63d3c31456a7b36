# For saving artifacts with keys.vault.dataKeys: local: wraps data keys, and cannot unwrap stored ones.
# Put the mount and the key of keys.vault in place of transit and artifacts.
path "transit/encrypt/artifacts" {
  capabilities = ["update"]
}
