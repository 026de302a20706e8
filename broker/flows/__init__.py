"""One file per story, told from top to bottom; flows meet adapters only at the ports."""
