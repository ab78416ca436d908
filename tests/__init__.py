"""The tests, by what they need: see CONTRIBUTING.md."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The checkout."""
