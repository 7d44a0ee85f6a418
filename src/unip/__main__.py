"""`python -m unip` is `unip`."""

from unip.cli import main

if __name__ == "__main__":
    main()
