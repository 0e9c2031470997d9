"""What a reader does, done in a browser: Debian's Chromium drives JupyterLab, Voilà and the pages of `make run`."""
