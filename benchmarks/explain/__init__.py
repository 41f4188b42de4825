"""Why an engine is not faster: its profile held against a measured roofline of the machine."""
