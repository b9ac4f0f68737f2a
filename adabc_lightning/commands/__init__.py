"""What a person types, a module or a folder for each command."""
