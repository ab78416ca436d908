"""Into PostgreSQL."""
