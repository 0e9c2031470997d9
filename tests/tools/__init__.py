"""What keeps the notebooks in order: execute them for a commit, check them, draw their gallery."""
