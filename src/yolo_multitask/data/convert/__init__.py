"""Converters from other annotation formats to this package's label grammar."""
