"""The command line `aries-broker`."""
