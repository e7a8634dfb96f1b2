"""Does the event loop ever block? Gaps between the chunks of paced streams, quiet and while something large goes on."""
