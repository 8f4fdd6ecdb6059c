"""`python -m emert_edge`: the command line where its script is not on the path."""

from emert_edge.cli import main

if __name__ == "__main__":
    main()
