"""Built-in suites: YAML files found by name."""
