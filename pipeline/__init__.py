"""The Beam job that labels comments: Parquet in, labels and attention out."""
