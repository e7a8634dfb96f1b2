"""What engines say of themselves: health, load and models, by polling. Knows no request."""
