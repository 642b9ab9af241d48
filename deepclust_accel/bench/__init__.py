"""What ``dcaccel bench`` runs: speed and memory of every operator beside the alternatives, results checked first."""
