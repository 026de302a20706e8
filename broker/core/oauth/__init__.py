"""OAuth messages built and parsed without I/O, one file per RFC."""
