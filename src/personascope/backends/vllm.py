"""The offline vLLM engine (written against 0.32), for a GPU node that holds the whole model."""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from personascope.backends import Completion, Request, Sampling


class VLLMBackend:
    """Generation inside this process with `vllm.LLM`; see `Backend`.

    `model` is a Hugging Face id or a local folder, `engine_options` go to `vllm.LLM` as they are. Sequences end at
    `stop_ids` and nowhere else, as in the embedded engine; without any, at the model's own end token.
    Raises ModuleNotFoundError where vLLM is not installed.
    """

    def __init__(
        self,
        model: str,
        stop_ids: Sequence[int],
        *,
        revision: str | None = None,
        dtype: str = "bfloat16",
        max_model_len: int = 2048,
        tensor_parallel_size: int = 1,
        gpu_memory_utilization: float = 0.9,
        trust_remote_code: bool = False,
        engine_options: dict[str, Any] | None = None,
    ):
        # By name, so that a type checker needs no vLLM; in here, so that only making the engine does.
        self._vllm = importlib.import_module("vllm")
        self._inputs = importlib.import_module("vllm.inputs")
        self._final_only = importlib.import_module("vllm.sampling_params").RequestOutputKind.FINAL_ONLY
        self.stop_ids = sorted(set(stop_ids))
        options = {
            "revision": revision,
            "tokenizer_revision": revision,
            "dtype": dtype,
            "max_model_len": max_model_len,
            "tensor_parallel_size": tensor_parallel_size,
            "gpu_memory_utilization": gpu_memory_utilization,
            "trust_remote_code": trust_remote_code,
            "enable_prefix_caching": True,
        }
        self.llm = self._vllm.LLM(model, **options | (engine_options or {}))

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
        """Yield (index, completion) as requests finish; closing the iterator aborts the rest.

        `LLM.generate` returns only once all is done, so its own loop over `LLMEngine.step` is run here.
        """
        engine = self.llm.llm_engine
        pending = {str(i) for i in range(len(requests))}
        try:
            for i, request in enumerate(requests):
                prompt = self._inputs.tokens_input(request.prompt_ids)
                engine.add_request(str(i), prompt, self._sampling_params(request, sampling))
            while pending:
                for output in engine.step():
                    if output.finished and output.request_id in pending:
                        pending.remove(output.request_id)
                        yield int(output.request_id), self._completion(output.outputs[0])
        finally:
            if pending:
                engine.abort_request(list(pending))

    def _sampling_params(self, request: Request, sampling: Sampling) -> Any:
        return self._vllm.SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=request.seed,
            max_tokens=request.max_tokens,
            stop_token_ids=self.stop_ids,
            ignore_eos=bool(self.stop_ids),
            detokenize=False,
            output_kind=self._final_only,
        )

    def _completion(self, output: Any) -> Completion:
        ids = list(output.token_ids)
        # There are no stop strings, so "stop" always means that the last token is the one that stopped it.
        return Completion(ids[:-1] if output.finish_reason == "stop" else ids, output.finish_reason or "unknown")
