"""`ymt benchmark`: what a multitask model costs and gives, beside the separate models that it replaces."""
