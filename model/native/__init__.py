"""The native engine: the network in C, for every width of vectors, with the same bits of each."""
