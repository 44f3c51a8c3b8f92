"""What a model is worth: metrics, duels, what it marks, swaps; and the card that says so."""
