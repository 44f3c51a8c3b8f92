"""From inputs to rows: which files, which rows of them, which columns, as Arrow."""
