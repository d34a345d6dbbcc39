"""``python -m qbench``: the command, where its script is not on the path."""

from qbench.cli import main

if __name__ == "__main__":  # and not in the processes that a run starts
    main()
