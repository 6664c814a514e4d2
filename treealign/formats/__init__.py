"""Bytes and headers; no torch."""
