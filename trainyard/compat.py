"""Every patch of a library, a function each: the version it is for, the reason, and when it can go."""
