"""The performance guard: instructions a request and a chunk, counted by callgrind, against a stored baseline."""
