"""``python -m redundancy``, the same as the ``redundancy`` command."""

from redundancy.cli import main

if __name__ == "__main__":
    main()
