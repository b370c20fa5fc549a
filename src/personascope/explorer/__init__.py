"""What people look at: features and roles described, laid out and put together into one page."""
