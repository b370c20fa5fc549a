"""The layer convention, which every artifact with activations or directions carries in its metadata.

Layer k is the output of decoder block k, counted from 0. Published vectors are often indexed by `hidden_states`, whose
row 0 is the embeddings: their row l is our layer l - 1.
"""

LAYER_CONVENTION = "layer k is the output of decoder block k, from 0 (blocks.k.hook_resid_post, hidden_states[k + 1])"
# What a row of a published tensor is called, and what is added to it to get our layer.
CONVENTIONS = {"block_output": 0, "hidden_states": -1}
