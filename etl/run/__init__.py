"""One run: its parts put together, its guards, its ledger and its lease."""
