"""What stage evaluate is made of: slices, plots, photos of something else, two models side by side."""
