"""Temperature and nucleus sampling whose noise depends on (seed, step, token) alone, never on the batch.

Gumbel-max: argmax over the nucleus of logit / temperature + g, with g = -log(-log u) and u taken from a
counter-based hash (splitmix64, Steele et al. 2014) of the row's seed, the step and the token id.
"""

import torch
from torch import Tensor

from personascope.backends import Sampling

FIRST_CANDIDATES = 64
CPU_ROWS = 8
_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift (torch's is arithmetic)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """splitmix64: a bijection of 64-bit integers that scrambles all bits; int64 wraps as needed."""
    x = x + _GOLDEN
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def gumbel_noise(seeds: Tensor, step: int, tokens: Tensor) -> Tensor:
    """Gumbel(0, 1) noise, float64 [rows, k], for seeds int64 [rows] and token ids int64 [rows, k]."""
    state = _mix(_mix(seeds) + step)
    uniform = (_shift(_mix(state[:, None] ^ _mix(tokens)), 12).double() + 0.5) * 2.0**-52
    return -torch.log(-torch.log(uniform))


def sample(logits: Tensor, seeds: Tensor, step: int, sampling: Sampling) -> Tensor:
    """Next token ids, int64 [rows], from logits [rows, vocabulary] and one seed a row."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    # On a CPU a few rows at a time stay in its cache; the whole batch would be fresh memory at every step.
    rows = CPU_ROWS if logits.device.type == "cpu" else len(logits)
    blocks = zip(logits.split(rows), seeds.split(rows), strict=True)
    return torch.cat([_sample_block(block, block_seeds, step, sampling) for block, block_seeds in blocks])


def _sample_block(logits: Tensor, seeds: Tensor, step: int, sampling: Sampling) -> Tensor:
    scaled = logits.float() / sampling.temperature
    log_norm = scaled.logsumexp(-1, keepdim=True)
    count = min(FIRST_CANDIDATES, scaled.shape[-1])
    while True:
        # The nucleus is nearly always small; rows where it is not make the candidate set grow.
        values, tokens = scaled.topk(count, dim=-1)
        probabilities = (values - log_norm).exp()
        before = probabilities.cumsum(-1) - probabilities
        if count == scaled.shape[-1] or bool((before[:, -1] >= sampling.top_p).all()):
            break
        count = min(count * 16, scaled.shape[-1])
    outside = before >= sampling.top_p
    outside[:, 0] = False
    noisy = (values.double() + gumbel_noise(seeds, step, tokens)).masked_fill(outside, -torch.inf)
    return tokens.gather(-1, noisy.argmax(-1, keepdim=True)).squeeze(-1)
