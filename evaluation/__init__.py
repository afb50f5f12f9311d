"""Scoring: images to features to record rows, speed, tables, figures, the report and the regression gate."""

from gigagan.errors import one_line_for_ctrl_c

one_line_for_ctrl_c()
