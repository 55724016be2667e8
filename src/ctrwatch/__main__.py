"""`python -m ctrwatch` is `ctrwatch`."""

from ctrwatch.cli import main

if __name__ == "__main__":
    main(prog_name="ctrwatch")
