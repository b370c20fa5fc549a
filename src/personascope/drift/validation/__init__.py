"""What the drift tests and intervals promise, measured on simulated data whose truth is known."""
