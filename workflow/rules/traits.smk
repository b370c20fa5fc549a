# In: trait files, contrastive responses, judgements. Out: trait vectors and what they are worth.
