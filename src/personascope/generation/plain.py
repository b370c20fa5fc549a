"""What plain assistant text projects on directions, where no reference conversations of the model are at hand.

A few questions and plain answers, which the model reads and has not written: enough for the zero and the unit of a
display, and for the mean norm that a steering coefficient is in units of. It is no reference that a test could rest on.
"""

from typing import Any

import torch

from personascope.formats.traces import split_column
from personascope.models.hookpoints import HookPoint, run_to
from personascope.models.projection import Probe
from personascope.models.spans import encode_conversation, locate_spans

PLAIN = (
    (
        "Why does bread go stale faster in the fridge?",
        "The starch in bread slowly turns back into crystals and lets its water go. That happens fastest a little "
        "above freezing, which is where a fridge is set. At room temperature it is slower, and colder still it stops.",
    ),
    (
        "How do I find the median of a list of numbers?",
        "Sort it first. If it has an odd number of entries, the median is the one in the middle. If it has an even "
        "number, take the two in the middle and divide their sum by two. For 3, 5, 8 and 10 this gives 6.5.",
    ),
    (
        "Can you suggest a simple plan for learning to swim as an adult?",
        "Start with a beginners' course, twice a week for two months. Spend the first lessons on breathing out under "
        "water and floating. Then learn one stroke well before the next; most adults begin with the breaststroke. "
        "Short and regular practice helps more than a long session now and then.",
    ),
    (
        "What should I write to a neighbor who has lost a parent?",
        "A few honest lines are enough. Say that you heard the news and that you are sorry. If you knew the person, "
        "mention one thing that you remember. Offer something definite, such as a meal on Thursday, so that your "
        "neighbor need not ask for help.",
    ),
    (
        "What is the difference between weather and climate?",
        "Weather is what the air does on a given day: rain, wind, how warm it is. Climate is the pattern of such days "
        "over decades. A cold week says little about the climate of a place, as one throw says little about a die.",
    ),
    (
        "Is it better to rent or to buy a flat?",
        "It depends mostly on how long you will stay. Buying has large costs at the start, which pay off only after "
        "some years. Renting keeps you free to move and leaves repairs to the owner. Compare the yearly cost of both, "
        "with interest, taxes and repairs counted, before you decide.",
    ),
)


@torch.inference_mode()
def plain_scale(model: Any, tokenizer: Any, probe: Probe) -> dict[str, Any]:
    """{"tokens": n, "columns": {NAME@LAYER: {"mean", "sd"}}, "norms": {layer: mean norm of h}} over the answers."""
    points = {HookPoint(layer, "resid_post") for layer in probe.units}
    projected, norms = [], []
    for question, answer in PLAIN:
        talk = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        encoded = encode_conversation(tokenizer, talk)
        ranges = [(span.start, span.end) for span in locate_spans(tokenizer, talk, encoded)]
        ids = torch.tensor([encoded.ids], device=model.get_input_embeddings().weight.device)
        read = run_to(model, ids, points, [ranges])
        states = [read[HookPoint(layer, "resid_post")].float() for layer in probe.units]
        units = [units.to(h.device) for units, h in zip(probe.units.values(), states, strict=True)]
        projected.append(torch.cat([(h @ u.T).cpu() for h, u in zip(states, units, strict=True)], 1))
        norms.append(torch.stack([h.norm(dim=-1).cpu() for h in states], 1))
    values, lengths = torch.cat(projected).double(), torch.cat(norms).double().mean(0).tolist()
    means, sds = values.mean(0).tolist(), values.std(0, correction=0).tolist()
    columns = {c: {"mean": m, "sd": s} for c, m, s in zip(probe.columns, means, sds, strict=True)}
    layers = sorted({split_column(column)[1] for column in probe.columns})
    return {
        "tokens": len(values),
        "columns": columns,
        "norms": {str(k): n for k, n in zip(layers, lengths, strict=True)},
    }
