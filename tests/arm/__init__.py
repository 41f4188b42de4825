"""An emulated ARM: its set-up (`make arm`), and whether artifacts answer there as they do on x86."""
