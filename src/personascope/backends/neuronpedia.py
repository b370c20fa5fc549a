"""Descriptions of features from Neuronpedia, or a server that answers like it: asked politely, and each kept for good.

GET {base_url}/api/feature/{id}/{feature}; a description is the first of `explanations` that has one, else the feature's
own. A feature that the server does not know (404) has none, which is kept as well.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from personascope.backends.endpoint import Endpoint, route
from personascope.errors import UserError
from personascope.formats.descriptions import Descriptions, read_descriptions, write_descriptions

log = logging.getLogger(__name__)

PAGES = "https://neuronpedia.org"  # where people look, whoever was asked
SAVE_S = 10.0  # between two savings: what is asked again after a kill
IN_A_ROW = 5  # features without an answer, after which the server counts as down
# How one feature is asked for: tries, and the waits between them, which double; a longer Retry-After is honored.
TRIES, BACKOFF_S, TIMEOUT_S = 5, 1.0, 30.0
NO_FEATURE = 404

Entry = dict[str, str | None]


class Features(Endpoint):
    """The features of one SAE; name: Neuronpedia's model and source, "gemma-2-2b/12-gemmascope-res-16k". The options
    are those of `Endpoint`; no key is sent."""

    def __init__(
        self,
        base_url: str,
        name: str,
        *,
        max_concurrency: int,
        requests_per_minute: float | None,
        timeout_s: float = TIMEOUT_S,
        max_retries: int = TRIES - 1,
        backoff_s: float = BACKOFF_S,
    ):
        self.name = name
        self._unanswered = 0
        super().__init__(
            route(base_url, f"/api/feature/{name}"),
            gives="a feature",
            serves=f"the features of {name}",
            api_key_env=None,
            max_concurrency=max_concurrency,
            requests_per_minute=requests_per_minute,
            timeout_s=timeout_s,
            max_retries=max_retries,
            backoff_s=backoff_s,
            uds=None,
        )

    def fetch(self, features: Sequence[int]) -> Iterable[tuple[int, Entry | None]]:
        """Yield (feature, its entry) as answers come; None where it has no answer after all tries. UserError where the
        server gives none at all."""
        with closing(self.ask([{"feature": feature} for feature in features], description_of)) as answers:
            for index, (text, answered) in answers:
                url = f"{PAGES}/{self.name}/{features[index]}"
                yield features[index], {"description": text, "url": url} if answered else None

    async def _request(self, client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
        return await client.get(f"{self.url}/{body['feature']}", follow_redirects=True)

    def _read(self, reply: httpx.Response, read: Callable[[Any], Any]) -> Any:
        return (None, True) if reply.status_code == NO_FEATURE else super()._read(reply, read)

    async def _answer(self, client: httpx.AsyncClient, body: dict[str, Any], read: Callable[[Any], Any]) -> Any:
        """One feature may have no answer, many in a row may not: then the server is down."""
        try:
            answer = await super()._answer(client, body, read)
        except UserError as error:
            self._unanswered += 1
            if self._unanswered >= IN_A_ROW:
                raise
            log.warning("feature %d: %s", body["feature"], error)
            return None, False
        self._unanswered = 0
        return answer


def description_of(reply: Any) -> tuple[str | None, bool] | None:
    """(description, True) of a reply; None where it is no feature."""
    if not isinstance(reply, dict) or not (reply.keys() & {"explanations", "description", "index"}):
        return None
    explanations = reply.get("explanations")
    texts = [one.get("description") for one in explanations if isinstance(one, dict)] if explanations else []
    found = (text.strip() for text in [*texts, reply.get("description")] if isinstance(text, str))
    return next((" ".join(text.split()) for text in found if text), None), True


def write_fetched(features: Sequence[int], options: Mapping[str, Any], store: str, output: str, **limits: Any) -> None:
    """Write a descriptions cache of these features; what the store has is not asked for again.

    options: `id`, `base_url`, `max_concurrency`, `requests_per_minute`; limits: others of `Features`. Where the server
    is down, or has no answer for some, the rest is written, and the log says so.
    """
    name = options["id"]
    kept_file = Path(store) / "neuronpedia" / f"{name.replace('/', '__')}.json"
    kept = read_descriptions(kept_file) if kept_file.exists() else {}
    missing = [feature for feature in features if feature not in kept]
    log.info("%s: %d features are wanted, %d are in the store", name, len(features), len(features) - len(missing))
    pace = {key: options[key] for key in ("max_concurrency", "requests_per_minute")}
    client = Features(options["base_url"], name, **pace, **limits)
    try:
        _fetch_into(kept, kept_file, client, missing)
    except UserError as error:
        left = sum(feature not in kept for feature in features)
        log.warning("%s; %d features keep their labels; run the rule describe_neuronpedia again later", error, left)
    write_descriptions(output, {feature: kept[feature] for feature in features if feature in kept})


def _fetch_into(kept: Descriptions, file: Path, client: Features, missing: Sequence[int]) -> None:
    """Add what is answered, and save it every now and then, and at the end, whatever ends it."""
    saved, new = time.monotonic(), 0
    try:
        for feature, entry in client.fetch(missing):
            if entry is not None:
                kept[feature] = entry
                new += 1
            if time.monotonic() - saved >= SAVE_S:
                write_descriptions(file, kept)
                saved = time.monotonic()
                log.info("%d of %d features", new, len(missing))
    finally:
        if new:
            write_descriptions(file, kept)
