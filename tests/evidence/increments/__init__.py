"""Histories of an upstream whose sales are kept: played over many runs, and judged by what must hold."""
