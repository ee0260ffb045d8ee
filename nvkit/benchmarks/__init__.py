"""One folder for each benchmark; nothing outside its folder knows more than `base.Benchmark`."""
