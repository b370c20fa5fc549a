"""What the drift tests and intervals promise, measured on simulated data whose truth is known."""

# The tables that the workflow makes, each by the function of its name in `tables`. Light: the workflow reads it too.
TABLES = (
    *("false_alarms", "false_alarms_varied", "power"),
    *("axis_coverage", "text_coverage", "role_coverage", "axis_quality", "agreement"),
)
