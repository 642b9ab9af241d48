"""The training engine: runs a method's plan over a data source. It knows stages, not methods."""
