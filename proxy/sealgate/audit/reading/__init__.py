"""Where a trail is read back: verified, queried and reported (docs/audit.md). Only commands load this package.

`trail_lines` finds records in files, `chain_state` follows one chain, `verify` checks a whole trail, `flaws` collects
what is wrong, `query` lists accesses, and `report` and `plots` make the page for an auditor.
"""
