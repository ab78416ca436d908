"""From bytes to records, proved complete."""
