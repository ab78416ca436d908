"""Into BigQuery."""
