"""What people see: text made harmless, one screen that everything is told through, a line that changes under it."""
