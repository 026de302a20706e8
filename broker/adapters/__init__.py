"""Each adapter implements one port over one outside library."""
