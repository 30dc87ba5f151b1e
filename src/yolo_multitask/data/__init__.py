"""Label grammar, data sets and converters."""
