"""What needs a real part, or a stand-in for one, in the tests' own process."""
