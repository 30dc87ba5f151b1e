"""Parts of the tracking benchmarks `trackers.py` and `embeddings.py`."""
