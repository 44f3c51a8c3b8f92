"""Learn, export and run the multi-task attention RNN. Knows nothing of Beam."""
