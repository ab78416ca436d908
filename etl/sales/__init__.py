"""Kept sales: every sale in a store, what changed read in increments, and the sums made where the sales are."""
