"""What a model is worth: metrics, duels, what attention shows, swaps; and the card that says so."""
