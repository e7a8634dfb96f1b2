"""What a request asks for: its fields, model, prompt, route and target. Knows no connection."""
