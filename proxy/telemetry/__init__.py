"""What the program tells about itself: the audit trail, traces, metrics and the log."""
