"""What one item of JSON means: fields, values, and records made of them. Pure."""
