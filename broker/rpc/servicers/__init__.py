"""One thin class per service: convert, call the flow, convert."""
