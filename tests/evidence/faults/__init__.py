"""Seeded faults against real processes: what breaks, where, and when; and six checks after each."""
