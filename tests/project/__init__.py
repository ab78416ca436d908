"""The repository itself: documents, requirements, imports, Terraform."""
