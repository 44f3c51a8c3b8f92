"""A night as one HTML page: what came in, what went out, and what was checked."""
