"""The library in C: network, n-grams, tokens and words, and how it is called."""
