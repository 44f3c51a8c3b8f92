"""Labelled rows that users bring: files, labels, splits, and what is wrong with them."""
