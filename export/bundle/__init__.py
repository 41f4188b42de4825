"""What leaves the toolkit for a device: one file or folder whose every byte is checked before any of it is used."""
