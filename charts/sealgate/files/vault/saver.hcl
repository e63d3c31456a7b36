# Saves artifacts: may have data keys made, and cannot open one again.
# Put the mount and the key of keys.vault in place of transit and artifacts.
path "transit/datakey/plaintext/artifacts" {
  capabilities = ["update"]
}
