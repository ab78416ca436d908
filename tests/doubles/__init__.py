"""The real parts that tests start, and stand-ins for those that can't be had."""
