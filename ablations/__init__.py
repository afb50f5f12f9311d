"""What is compared: variants and suites as data, and what they cost."""
