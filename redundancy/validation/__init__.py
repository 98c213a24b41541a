"""Do the measures predict what skipping costs? Rank correlations, controls and plain failures."""
