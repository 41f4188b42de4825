"""What runs on the device: does a bundle work there, how fast is it, what does it say. numpy and one runtime suffice."""
