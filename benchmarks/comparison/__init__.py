"""Two runs and more: what may be compared, what moved, and whether that is real."""
