"""What the stages leave on disk: typed, finished or absent, in open formats."""
