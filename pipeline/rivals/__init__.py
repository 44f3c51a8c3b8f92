"""What one would write instead of this job, for `bench`: from Parquet to Parquet, for some tasks.

Each learns from what the job answered, so that speed alone is compared; learning is not timed.
Then it labels in a process of its own, which is timed from start to end.

- `tfidf`: TF-IDF of word 1- and 2-grams and character 1- to 4-grams, and logistic regression
  (scikit-learn); a process a core.
- `fasttext`: a fastText model a task, of word bigrams and characters 2 to 4; a process a core.
- `torch`: the job's own network as a plain loop in PyTorch, without the n-gram expert; texts of
  like length in a batch, padded; a process a core.
- `onnxruntime`: the same with the network that `glossator export` writes, in ONNX Runtime.
- `runinference`: Beam's RunInference with its PyTorch handler and a GRU of 128 units a direction
  with an attention a task, of random weights, as its documentation shows it; texts are padded to
  the longest of a batch.
- `runinference-tuned`: the same with the job's own network, which gets batches of 1,024 texts and
  sorts them by length; tokenized in bulk.

A rival is a module with `get_ready(settings, folder)` and, run with the folder as its argument,
what labels; `running.py` has what they share.
"""
