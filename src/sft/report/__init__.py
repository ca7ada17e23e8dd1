"""The page that a run leaves behind: run folders in, one HTML file out. Only files are read, so that a run that was
killed, or is still going on, gives a true page too."""
