"""`python -m treealign`, for where the console script is not on the path."""

from treealign.cli import main

main()
