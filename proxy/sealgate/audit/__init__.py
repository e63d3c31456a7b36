"""The audit trail: one signed record before each access and one after it (docs/audit.md).

This room writes the trail. `audit.reading` verifies, queries and reports; only commands load it.
"""
