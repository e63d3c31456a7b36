"""Files on this machine, and objects in the downstream: local paths, the spool, stored objects."""
