"""How results are shown: figures, pages, colors, tables of text. No science in it."""
