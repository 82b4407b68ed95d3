"""What a person sees and types: the screen, its keys, numbers with units."""
