"""Studies of the measuring protocol itself: `python -m benchmarks.studies.honesty`."""
