"""What needs the function, or the shell, as a process of its own."""
