"""Training: losses as pure functions, a trainer that walks a list of phases, and what keeps a run exact."""
