"""A tokenizer that reads text as its own `tokenizer.json` does, and the token ids that end a turn.

transformers may build a tokenizer by the wrong class: its repository names one, or the model's type stands for one,
that pre-tokenizes in another way, and no error says so. What was trained is what the file says.
"""

import logging
from pathlib import Path
from typing import Any

from personascope.errors import UserError

log = logging.getLogger(__name__)

FILE = "tokenizer.json"
# Where pre-tokenizers, normalizers and decoders differ: white space, digits, scripts without spaces, marks, code.
PROBE = (
    " Hello  world, it's 2024-07-26:\n\n1234567.89 (100%)\tNaïve café e\u0301 猫は寝ている。안녕 مرحبا 🏴‍☠️👩‍👩‍👧\n"
    "```python\ndef f(x_1):\n    return {'a': x_1 ** 2}  # ok\n```\n<b>HELLO</b> ▁ Ġ \u00a0 end "
)


def as_its_file_says(tokenizer: Any, name: str, source: dict[str, Any]) -> Any:
    """The tokenizer, or where it does not read and write text as its `tokenizer.json` does, one made from that file.

    name, source: where it was loaded from, as for `from_pretrained`. UserError where none can be made.
    """
    file = _file(name, source)
    if file is None:
        return tokenizer
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    own = Tokenizer.from_file(str(file))
    # A file that was saved in training may keep how its batches were cut and padded; transformers leaves both out.
    own.no_truncation()
    own.no_padding()
    if _reads_as(own, tokenizer):
        return tokenizer
    made = PreTrainedTokenizerFast.from_pretrained(name, **source)
    if not _reads_as(own, made):
        raise UserError(f"model.id: the tokenizer of {name} does not read text as its own {FILE} does")
    log.warning(
        "the tokenizer of %s reads text as its %s says; the class that its configuration asks for (%s) makes other "
        "tokens of it",
        name,
        FILE,
        type(tokenizer).__name__,
    )
    return made


def _file(name: str, source: dict[str, Any]) -> Path | None:
    """The file as it lies in the folder or in the cache of the hub; None where there is none."""
    if Path(name).is_dir():
        file = Path(name) / FILE
        return file if file.is_file() else None
    from transformers.utils.hub import cached_file

    quiet = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors")}
    found = cached_file(name, FILE, revision=source["revision"], **quiet)
    return None if found is None else Path(found)


def _reads_as(own: Any, tokenizer: Any) -> bool:
    """Whether text becomes the same tokens, and these the same text."""
    ids = own.encode(PROBE, add_special_tokens=False).ids
    if list(tokenizer(PROBE, add_special_tokens=False)["input_ids"]) != ids:
        return False
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False) == own.decode(ids, skip_special_tokens=False)
