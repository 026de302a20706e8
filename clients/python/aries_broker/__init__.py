"""The client of the Aries credential broker."""
