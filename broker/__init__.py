"""The Aries credential broker: the only holder of client secrets and refresh tokens."""
