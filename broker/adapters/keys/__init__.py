"""Sealing under data keys (Google Tink) that key-encryption keys wrap, and the local key files."""
