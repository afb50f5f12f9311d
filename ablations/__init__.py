"""What is compared: variants and suites as data, and what they cost."""

from gigagan.errors import one_line_for_ctrl_c

one_line_for_ctrl_c()
