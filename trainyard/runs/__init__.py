"""What run directories tell: tables, charts, and a live view. Reads alone; imports no torch."""
