"""A bundle measured on another machine: copied there, run there, its report brought back, nothing left behind."""
