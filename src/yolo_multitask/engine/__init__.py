"""Prediction and validation on the host's engine."""
