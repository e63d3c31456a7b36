"""Where the audit trail is written: one signed record before each access and one after it (docs/audit.md).

`records` defines the record, `accesses` fills it in, `chain` links and signs it, `audit_log` decides when an access may
go on, and `sinks` holds the places that lines go to. `reading` reads a trail back; only commands load it.
"""
