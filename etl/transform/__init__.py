"""From records to the two summary tables. Pure."""
