"""`python -m headrace.checking`: one check, for a node."""

from headrace.checking.apart import main

if __name__ == "__main__":
    main()
