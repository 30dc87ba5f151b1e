"""What is measured: a similarity per task, and the average precisions built on it."""
