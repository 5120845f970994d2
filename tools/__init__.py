"""What maintainers run: the demo model's pre-training and the benchmarks."""
