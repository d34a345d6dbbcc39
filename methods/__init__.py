"""Built-in methods: one file per paper. Each sees only the public names of qbench."""
