"""What somebody may have sent, mutated: every input gives a result or one of our errors, in bounded time and memory."""
