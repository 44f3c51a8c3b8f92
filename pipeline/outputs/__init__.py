"""From rows to an output: what it holds, how it is written, checked and published."""
