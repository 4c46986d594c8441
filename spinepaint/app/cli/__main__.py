"""`python -m spinepaint.app.cli`: how the service starts its own worker, whatever the PATH."""

from spinepaint.app.cli import main

if __name__ == "__main__":
    main()
