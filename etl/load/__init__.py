"""From a summary into the stores."""
