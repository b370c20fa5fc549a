"""What the test says of a conversation, in one line, for figures and pages alike."""

import math
from collections.abc import Mapping
from typing import Any

from personascope.drift.result import Verdict


def doubt_line(doubt: str) -> str:
    """ "Do not interpret: split-half 0.29 < 0.5"; empty without a doubt about the axis."""
    return f"Do not interpret: {doubt} (of the axis)" if doubt else ""


def verdict_line(verdict: Verdict) -> str:
    """ "alarm at turn 6 (evidence since turn 4, set 3-5), p = 0.008", "no alarm, p = 0.41" or "no test: ..."."""
    if verdict.reason:
        return f"no test: {verdict.reason}"
    p = f"p = {p_text(verdict.p_value)}"
    if verdict.alarm_turn is None:
        return f"no alarm, {p}"
    spread = "" if verdict.onset_set is None else f", set {verdict.onset_set[0]}\u2013{verdict.onset_set[1]}"
    return f"alarm at turn {verdict.alarm_turn} (evidence since turn {verdict.onset}{spread}), {p}"


def rate_line(verdict: Verdict) -> str:
    """What an alarm is worth: the false alarms that were measured, and by how many reference conversations."""
    if verdict.reason:
        return ""
    domain = verdict.references.get("domain")
    where = f" of the domain {domain}" if domain else ""
    stated = f"false alarms stated: {share(verdict.alpha)}"
    return f"{stated}; measured on held-out plain conversations{where}: {rate_text(verdict.false_alarm_rate)}"


def rate_text(rate: Mapping[str, Any]) -> str:
    """ "4 % (95 % interval 1 % to 9 %, n = 120)"."""
    if rate.get("rate") is None:
        return "not measured"
    return f"{share(rate['rate'])} (95 % interval {share(rate['low'])} to {share(rate['high'])}, n = {rate['n']})"


def share(value: float) -> str:
    """A share in percent, with two digits below ten."""
    percent = 100 * value
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"


def p_text(p: float | None) -> str:
    """A p-value to two digits."""
    return "not known" if p is None or math.isnan(p) else f"{p:.2g}"
