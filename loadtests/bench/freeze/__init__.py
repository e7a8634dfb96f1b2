"""Does the event loop ever block? Gaps between the chunks of paced streams, with and without a disturbance."""
