"""What shows that the promises hold: histories, arrivals, faults, hostile input, benchmarks."""
