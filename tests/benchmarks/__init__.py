"""The benchmark suite: `python -m tests.benchmarks`. It measures for minutes, so pytest doesn't collect it."""
