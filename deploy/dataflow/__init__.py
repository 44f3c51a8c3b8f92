"""Google Cloud Dataflow: the flex template and what it is built from."""
