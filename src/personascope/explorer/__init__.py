"""One HTML page in which roles, features and drift explain each other: its data, and the page around them."""
