"""Apache Flink: a local cluster to try things on, and Kubernetes."""
