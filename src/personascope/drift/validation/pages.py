"""The words of the validation page: what each table shows, and what is to be learned from it."""

INTRODUCTION = """
# Validation

What the conversation test, the intervals and the measures of an axis promise, measured where the truth is known: on
simulated data, and on conversations with labels.
"""
SECTIONS: dict[str, str] = {}
