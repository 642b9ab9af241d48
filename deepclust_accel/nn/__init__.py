"""Network modules without training logic."""
