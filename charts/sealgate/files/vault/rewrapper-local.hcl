# For rotation of a key that Vault cannot rewrap under, such as one in an HSM: unwraps data keys and wraps them again.
# An identity with this policy can open every artifact. For every other key, use rewrapper.hcl.
# Put the mount and the key of keys.vault in place of transit and artifacts.
path "transit/decrypt/artifacts" {
  capabilities = ["update"]
}

path "transit/encrypt/artifacts" {
  capabilities = ["update"]
}

# Reading the key shows its newest version, and that Vault cannot rewrap under it.
path "transit/keys/artifacts" {
  capabilities = ["read"]
}
