"""The real parts that tests and `make run` use: see each module."""
