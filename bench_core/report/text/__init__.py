"""Lay out and escape text."""
