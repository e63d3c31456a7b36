# Moves data keys to the newest key version, and never sees one.
# Put the mount and the key of keys.vault in place of transit and artifacts.
path "transit/rewrap/artifacts" {
  capabilities = ["update"]
}

# Which version is the newest, and whether the key is derived.
path "transit/keys/artifacts" {
  capabilities = ["read"]
}
