"""The key provider for HashiCorp Vault and OpenBao (docs/vault.md).

* `provider`: how data keys are made, unwrapped and rewrapped with the Transit engine
* `session`: which token a request carries, when this process logs in, and what follows from a 403
* `login`: how this process proves to Vault who it is
* `requests`: when a request is tried again (429, 5xx, no answer), and for how long
* `connections`, `client`: how one request reaches the server
* `formats`: how a request and an answer look, and which names are valid
* `faults`: which error follows from an answer, and how often its request is tried
* `inspection`: what `sealgate doctor` asks
* `server`: which server and which key the settings name
* `transit`, `derived`: the paths of Transit, and keys with a derivation context
* `rewrapping`: how stored data keys move to a newer version of the key
* `usable_keys`: which keys an identity may use, for the errors of a 403
* `tls`, `no_answer`: certificates, and what it means that a server does not answer
* `fault_rule`: one rule of `faults`
"""
