"""The stand-ins themselves."""
