"""Reading an audit trail back: verify, query, report. Only commands load this room."""
