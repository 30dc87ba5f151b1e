"""Export: a trained network as a file for other runtimes, and those files as backends of the engine."""
