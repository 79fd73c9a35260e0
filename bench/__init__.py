"""Benchmarks: each a ratio against a named baseline that is measured in the same run. Start them with `bench/run`."""
