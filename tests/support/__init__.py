"""What tests and benchmarks share: checkouts of this repository, image layouts, a remote cache."""
