"""Training, validation, prediction and tracking of models that see several consecutive frames at once."""
