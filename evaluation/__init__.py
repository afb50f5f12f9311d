"""Scoring: images to features to record rows, speed, tables, figures, the report and the regression gate."""
