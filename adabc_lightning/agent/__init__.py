"""What an agent is and how it learns: equations, networks, methods, updates."""
