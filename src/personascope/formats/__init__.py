"""What is on disk, read and written without torch."""
