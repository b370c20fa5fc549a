"""What a host does for a rule: one module an operation, named as the rule."""
