"""The benchmark suite: `python -m tests.evidence.benchmarks`. It measures for minutes, so pytest doesn't collect it."""
