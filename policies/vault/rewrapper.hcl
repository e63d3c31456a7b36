# For rotation: rewraps data keys to the newest key version, without reading them.
# Put the mount and the key of keys.vault in place of transit and artifacts.
path "transit/rewrap/artifacts" {
  capabilities = ["update"]
}

# Reading the key shows its newest version, and whether it is derived.
path "transit/keys/artifacts" {
  capabilities = ["read"]
}
