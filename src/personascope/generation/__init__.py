"""Text out: responses in a role, conversations with a scripted user."""
