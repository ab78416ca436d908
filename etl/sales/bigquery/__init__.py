"""Kept sales in BigQuery."""
