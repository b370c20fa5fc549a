# In: directions and the model. Out: traces of tokens along directions, and what steering along them does.
