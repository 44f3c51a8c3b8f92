"""The library in C for files so small that what is done once a file decides: Parquet footers."""
