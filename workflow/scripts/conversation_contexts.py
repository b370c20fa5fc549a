from personascope.extraction.conversation_contexts import write_conversation_contexts
from personascope.runs.job import job

with job(snakemake):
    write_conversation_contexts(snakemake.input.tokens, snakemake.params.k, **dict(snakemake.output.items()))
