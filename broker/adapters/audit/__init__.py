"""The audit log as a table: one writer thread commits groups of events before their replies leave."""
