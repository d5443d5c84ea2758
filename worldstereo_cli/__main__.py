"""`python -m worldstereo_cli` is `worldstereo`."""

from worldstereo_cli.cli.main import main

if __name__ == "__main__":
    main()
