"""Judging a model as it is served: what was asked and answered, measures of it, reports."""
