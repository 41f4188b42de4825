"""The half of a run that each target repeats; `one_target.deploy` tells it."""
