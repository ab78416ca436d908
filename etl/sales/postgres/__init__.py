"""Kept sales in PostgreSQL."""
