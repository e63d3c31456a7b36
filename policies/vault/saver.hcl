# For saving artifacts: creates data keys, and cannot unwrap stored ones.
# Put the mount and the key of keys.vault in place of transit and artifacts.
path "transit/datakey/plaintext/artifacts" {
  capabilities = ["update"]
}
